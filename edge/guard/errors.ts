import type { Context, ErrorHandler, NotFoundHandler } from 'hono'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { excerpt, ImageError, retryLater, TurbineError } from '../contract/errors.ts'
import type { EdgeEnv, Log } from '../deps.ts'

/**
 * Responds with an error in OpenAI's format, with `Retry-After` if it can be retried and `WWW-Authenticate` on 401. A body
 * that is too slow costs the connection.
 */
export function respondError(c: Context<EdgeEnv>, error: TurbineError): Response {
  if (error.status === 401) c.header('WWW-Authenticate', 'Bearer realm="turbine"')
  // The rest of the body would be taken for the next request.
  if (error.status === 408) c.header('Connection', 'close')
  if (error.retryAfterSeconds !== undefined) c.header('Retry-After', String(error.retryAfterSeconds))
  return c.json(error.toBody(), error.status)
}

/** Converts any error to one for callers. Internal errors do not leak their message. */
function toTurbineError(error: unknown, requestId: string): TurbineError {
  if (error instanceof TurbineError) return error
  if (error instanceof StreamUnavailableError)
    return retryLater('stream_unavailable', 'The job stream is unavailable. Retry the request.', {
      cause: error,
    })
  if (error instanceof StoreUnavailableError)
    return retryLater('store_unavailable', 'The object store is unavailable. Retry the request.', {
      cause: error,
    })
  return new TurbineError(
    `Internal error. Retry the request; if it fails again, report it with request id ${requestId}.`,
    { status: 500, code: 'internal_error', cause: error },
  )
}

/** Responds with any error of a request. */
export function onError(log: Log): ErrorHandler<EdgeEnv> {
  return (cause, c) => {
    if (c.req.raw.signal.aborted) return callerGone()
    return respondError(c, errorOf(c, log, cause))
  }
}

/** Any error of a request as its caller may see it. Logs one that is the service's fault. */
export function errorOf(c: Context<EdgeEnv>, log: Log, cause: unknown): TurbineError {
  const requestId = c.get('requestId')
  const error = toTurbineError(cause, requestId)
  // The fault of an image's host is for the caller alone.
  if (error.status >= 500 && !(error instanceof ImageError)) {
    const fields = { err: error.cause ?? error, code: error.code, requestId, path: c.req.path }
    if (error.status === 503) log.warn(fields, error.message)
    else log.error(fields, `${c.req.method} ${c.req.path} failed`)
  }
  return error
}

/** Nobody reads this response; 499 (client closed request) is for the metrics. */
export const callerGone = () => new Response(null, { status: 499 })

export const onNotFound: NotFoundHandler<EdgeEnv> = (c) =>
  respondError(
    c,
    new TurbineError('There is no route at this path. GET / lists all routes.', {
      status: 404,
      code: 'route_not_found',
    }),
  )

/** Responds to a known path with another method than `allowed`. */
export function onMethodNotAllowed(c: Context<EdgeEnv>, allowed: string[]): Response {
  c.header('Allow', allowed.join(', '))
  return respondError(
    c,
    new TurbineError(
      `${excerpt(c.req.path)} does not accept ${excerpt(c.req.method, 20)}. Allowed: ${allowed.join(', ')}.`,
      {
        status: 405,
        code: 'method_not_allowed',
      },
    ),
  )
}
