/** The contract's errors; they live in infra because it throws them too. */
export {
  type ErrorBody,
  type ErrorDetails,
  type ErrorType,
  ImageError,
  TurbineError,
} from '../../infra/errors.ts'
