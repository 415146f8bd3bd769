import { remember } from '../../infra/remembered.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { defaultTenant } from '../contract/tenant.ts'
import type { Accounts } from '../deps.ts'
import { anyKey, findKey, hashOfKey, looksLikeKey } from './api-keys.ts'
import { isLoopbackHost } from './loopback.ts'
import { readTenant } from './tenants.ts'

/** A key or a tenant that was changed is seen as it was for at most this long, ms. */
const knownMs = 60_000
/** A key that was just made works after at most this long, ms. */
const unknownMs = 5_000
/** The first key that was ever made is asked for after at most this long, ms. */
const unconfiguredMs = 10_000

/**
 * API keys and tenants as they lie in the object store. Everything is remembered for a while, and through an outage
 * of the store.
 *
 * @example const accounts = createAccounts({ store, now: Date.now })
 */
export function createAccounts({ store, now }: { store: ObjectStore; now(): number }): Accounts {
  const keyOf = remember({
    load: (hash) => findKey(store, hash),
    freshMs: (stored) => (stored ? knownMs : unknownMs),
    now,
  })
  const tenantOf = remember({ load: (id) => readTenant(store, id), freshMs: () => knownMs, now })
  const configured = remember({
    load: () => anyKey(store),
    // Where there were keys strangers may call: revoking the last one must lock everybody out, not let them in.
    freshMs: (any) => (any ? Number.POSITIVE_INFINITY : unconfiguredMs),
    now,
  })
  return {
    configured: () => configured(''),
    async tenantOfKey(key) {
      const stored = looksLikeKey(key) ? await keyOf(await hashOfKey(key)) : undefined
      return stored && tenantOf(stored.tenant)
    },
    defaultTenant: () => tenantOf(defaultTenant.id),
  }
}

/** The service would be open to strangers. The message is one line with the remedy. */
class KeysRequiredError extends Error {
  override readonly name = 'KeysRequiredError'
  readonly code = 'keys_required'
  readonly retriable = false
}

/**
 * Lets a service listen on addresses that others can reach only when there are API keys.
 * @throws KeysRequiredError, StoreUnavailableError
 */
export async function assertExposable({
  host,
  accounts,
}: {
  host: string
  accounts: Accounts
}): Promise<void> {
  if (isLoopbackHost(host) || (await accounts.configured())) return
  throw new KeysRequiredError(
    `Others can reach ${host}, and there are no API keys. Make one with "npx turbine keys create --tenant NAME", or listen on 127.0.0.1.`,
  )
}
