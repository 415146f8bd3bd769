import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeEnv } from '../deps.ts'

/**
 * Rejects a body of more than `maxBytes` by its `Content-Length`, or as soon as that much was read. A body without one
 * is buffered before the route sees it.
 * @throws TurbineError `body_too_large`
 */
export const limitBody = (
  maxBytes: number,
  remedy = 'Send a smaller or more compressed image.',
): MiddlewareHandler<EdgeEnv> =>
  bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw bodyTooLarge(maxBytes, remedy)
    },
  })

/**
 * Rejects a body whose `Content-Length` exceeds `maxBytes`; the route reads it as a stream.
 * @throws TurbineError `body_too_large`
 */
export const limitAnnouncedBody =
  (maxBytes: number, remedy: string): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    if (Number(c.req.header('content-length') ?? 0) > maxBytes) throw bodyTooLarge(maxBytes, remedy)
    await next()
  }

const bodyTooLarge = (maxBytes: number, remedy: string) =>
  new TurbineError(`The body is larger than ${maxBytes} bytes. ${remedy}`, {
    status: 413,
    code: 'body_too_large',
  })
