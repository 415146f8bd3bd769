import type { Context, ErrorHandler, NotFoundHandler } from 'hono'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeEnv, Log } from '../deps.ts'

/** Answers with an error in OpenAI's shape, `Retry-After` where a repeat makes sense, and how to name oneself on 401. */
export function respondError(c: Context<EdgeEnv>, error: TurbineError): Response {
  if (error.status === 401) c.header('WWW-Authenticate', 'Bearer realm="turbine"')
  if (error.retryAfterSeconds !== undefined) c.header('Retry-After', String(error.retryAfterSeconds))
  return c.json(error.toBody(), error.status)
}

/** Any error as one that a caller may see. What is not meant for callers keeps its words to itself. */
function toTurbineError(error: unknown, requestId: string): TurbineError {
  if (error instanceof TurbineError) return error
  if (error instanceof StreamUnavailableError)
    return new TurbineError('The job stream cannot take requests now. Send the request again.', {
      status: 503,
      code: 'stream_unavailable',
      retryAfterSeconds: 1,
      cause: error,
    })
  if (error instanceof StoreUnavailableError)
    return new TurbineError('The object store cannot be reached now. Send the request again.', {
      status: 503,
      code: 'store_unavailable',
      retryAfterSeconds: 1,
      cause: error,
    })
  return new TurbineError(
    `Something failed inside the service. Send the request again; if it fails again, report it with request id ${requestId}.`,
    { status: 500, code: 'internal_error', cause: error },
  )
}

/** The last resort of every request: answers what went wrong, and logs it when it is the service's fault. */
export function onError(log: Log): ErrorHandler<EdgeEnv> {
  return (cause, c) => {
    if (c.req.raw.signal.aborted) return callerGone()
    const requestId = c.get('requestId')
    const error = toTurbineError(cause, requestId)
    if (error.status >= 500) {
      const fields = { err: error.cause ?? error, code: error.code, requestId, path: c.req.path }
      if (error.status === 503) log.warn(fields, error.message)
      else log.error(fields, `${c.req.method} ${c.req.path} failed`)
    }
    return respondError(c, error)
  }
}

/** Nobody reads this answer; 499 is what access metrics of other servers call it. */
export const callerGone = () => new Response(null, { status: 499 })

export const onNotFound: NotFoundHandler<EdgeEnv> = (c) =>
  respondError(
    c,
    new TurbineError('There is nothing at this address. GET / lists what there is.', {
      status: 404,
      code: 'route_not_found',
    }),
  )

/** Answers a known address that was asked with another method than `allowed`. */
export function onMethodNotAllowed(c: Context<EdgeEnv>, allowed: string[]): Response {
  c.header('Allow', allowed.join(', '))
  return respondError(
    c,
    new TurbineError(`${c.req.path} does not take ${c.req.method}. It takes ${allowed.join(', ')}.`, {
      status: 405,
      code: 'method_not_allowed',
    }),
  )
}
