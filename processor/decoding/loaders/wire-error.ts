import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import type { ErrorDetails, ImageCode } from '../../../infra/errors.ts'
import { HostFault } from '../../../infra/fetch/faults.ts'
import type { Lesson } from '../../../infra/fetch/host-pace.ts'
import { DecoderLostError, type LossReason } from '../decoder.ts'

/** An error on its way from a loader to the main thread. Causes are texts there. */
export interface WireError {
  message: string
  details?: Omit<ErrorDetails, 'cause'>
  /** Of an error of an image, and of a passing fault of its host. */
  isOfImage?: true
  lesson?: Lesson
  /** Of a decoder that was lost. */
  loss?: LossReason
  cause?: string
}

export function toWire(error: unknown): WireError {
  const { message, cause } = error instanceof Error ? error : new Error(String(error))
  const told = { message, ...(cause !== undefined && { cause: String(cause) }) }
  if (error instanceof DecoderLostError) return { ...told, loss: error.reason }
  if (!(error instanceof TurbineError)) return told
  const { status, type, code, param, retryAfterSeconds, retriable } = error
  return {
    ...told,
    details: { status, type, code, param: param ?? undefined, retryAfterSeconds, retriable },
    ...(error instanceof ImageError && { isOfImage: true }),
    ...(error instanceof HostFault && { lesson: error.lesson }),
  }
}

export function fromWire({ message, details, isOfImage, lesson, loss, cause }: WireError): Error {
  if (loss) return new DecoderLostError(loss, cause)
  if (!details) return new Error(message, cause === undefined ? undefined : { cause })
  const whole = { ...details, ...(cause !== undefined && { cause }) }
  const code = details.code as ImageCode
  if (lesson) return new HostFault(code, message, { ...whole, lesson })
  return isOfImage ? new ImageError(code, message, whole) : new TurbineError(message, whole)
}
