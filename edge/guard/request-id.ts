import type { MiddlewareHandler } from 'hono'
import { requestId } from 'hono/request-id'
import type { EdgeEnv } from '../deps.ts'

/** Keeps a caller's `x-request-id` of up to 128 letters, digits, `-`, `_` and `=`, or makes one, and returns it. */
export const nameRequest = (newId: () => string): MiddlewareHandler<EdgeEnv> =>
  requestId({ limitLength: 128, headerName: 'x-request-id', generator: () => `req_${newId()}` })
