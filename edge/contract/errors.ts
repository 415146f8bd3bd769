import { excerpt, TurbineError } from '../../infra/errors.ts'

/** The contract's errors; they live in infra because it throws them too. */
export {
  type ErrorBody,
  type ErrorDetails,
  type ErrorType,
  excerpt,
  ImageError,
  TurbineError,
} from '../../infra/errors.ts'

/** The request is at fault, in its field `param` where there is one. */
export const invalid = (code: string, message: string, param?: string, cause?: unknown) =>
  new TurbineError(message, { status: 400, code, param, cause })

/** No `kind` has this id; the code is `<kind>_not_found`. */
export const notFound = (kind: string, id: string, remedy: string, param = 'id') =>
  new TurbineError(`There is no ${kind} "${excerpt(id)}". ${remedy}`, {
    status: 404,
    code: `${kind}_not_found`,
    param,
  })

/** The same request can succeed later. */
export const retryLater = (
  code: string,
  message: string,
  {
    status = 503,
    retryAfterSeconds = 1,
    cause,
  }: { status?: 429 | 503; retryAfterSeconds?: number; cause?: unknown } = {},
) => new TurbineError(message, { status, code, retryAfterSeconds, cause })

export const shuttingDown = () =>
  retryLater('shutting_down', 'The service is shutting down. Retry the request.')
