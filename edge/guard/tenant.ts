import type { Context, MiddlewareHandler } from 'hono'
import { isLocalRequest } from '../accounts/loopback.ts'
import { TurbineError } from '../contract/errors.ts'
import type { Tenant } from '../contract/tenant.ts'
import type { Accounts, EdgeDeps, EdgeEnv } from '../deps.ts'
import { createWrongKeys, type WrongKeys } from './wrong-keys.ts'

/**
 * Identifies the tenant by API key. Without any keys, requests from this machine belong to the tenant `default`, with
 * any key, because SDKs insist on sending one. Of an address that sends wrong keys only known ones are taken.
 * @throws TurbineError `missing_api_key`, `invalid_api_key`, `keys_required`, `too_many_wrong_keys`
 */
export function identifyTenant({
  accounts,
  now,
}: Pick<EdgeDeps, 'accounts' | 'now'>): MiddlewareHandler<EdgeEnv> {
  const wrongKeys = createWrongKeys({ now })
  return async (c, next) => {
    c.set('tenant', await tenantOf(c, accounts, wrongKeys))
    await next()
  }
}

async function tenantOf(c: Context<EdgeEnv>, accounts: Accounts, wrongKeys: WrongKeys): Promise<Tenant> {
  const key = keyIn(c)
  const address = c.env?.address ?? ''
  if (key !== undefined && !accounts.knows(key)) wrongKeys.assertFew(address)
  const tenant = key === undefined ? undefined : await accounts.tenantOfKey(key)
  if (tenant) return tenant
  if (await accounts.configured()) {
    if (key === undefined) throw missingKey()
    wrongKeys.count(address)
    throw invalidKey()
  }
  if (!isLocalRequest(c.req.raw)) throw keysRequired()
  return accounts.defaultTenant()
}

/** From `Authorization: Bearer KEY`, else from `x-api-key`. */
function keyIn(c: Context<EdgeEnv>): string | undefined {
  const bearer = /^bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1]
  return bearer ?? (c.req.header('x-api-key') || undefined)
}

const missingKey = () =>
  new TurbineError('The API key is missing. Send it as "Authorization: Bearer sk-turbine-...".', {
    status: 401,
    code: 'missing_api_key',
  })

const invalidKey = () =>
  new TurbineError(
    'The API key is wrong or was revoked. Ask the operator for a new one: npx turbine keys create --tenant NAME.',
    { status: 401, code: 'invalid_api_key' },
  )

const keysRequired = () =>
  new TurbineError(
    'This service has no API keys yet, so it accepts requests from its own machine only, at http://localhost or http://127.0.0.1. Create a key with "npx turbine keys create --tenant NAME".',
    { status: 403, code: 'keys_required' },
  )
