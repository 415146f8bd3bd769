import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeEnv } from '../deps.ts'

/**
 * Refuses a body of more than `maxBytes` by its announced length, or as soon as that much was read.
 * @throws TurbineError `body_too_large`
 */
export const limitBody = (maxBytes: number): MiddlewareHandler<EdgeEnv> =>
  bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new TurbineError(
        `The body is larger than ${maxBytes} bytes. Send a smaller or more compressed image.`,
        { status: 413, code: 'body_too_large' },
      )
    },
  })
