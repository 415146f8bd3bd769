import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeEnv } from '../deps.ts'

/**
 * Refuses a body of more than `maxBytes` by its announced length, or as soon as that much was read. A body that
 * announces none is read into memory before the route sees it.
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
 * Refuses a body that announces more than `maxBytes` and leaves the rest to the route, which reads it as a stream.
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
