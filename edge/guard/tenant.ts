import type { MiddlewareHandler } from 'hono'
import { defaultTenant } from '../contract/tenant.ts'
import type { EdgeEnv } from '../deps.ts'

/** Says whose request it is. Without API keys everybody is the same tenant. */
export const identifyTenant = (): MiddlewareHandler<EdgeEnv> => async (c, next) => {
  c.set('tenant', defaultTenant)
  await next()
}
