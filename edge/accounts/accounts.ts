import { BoundedMap } from '../../infra/bounded-map.ts'
import { remember } from '../../infra/remembered.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { defaultTenant } from '../contract/tenant.ts'
import type { Accounts } from '../deps.ts'
import { anyKey, findKey, hashOfKey, looksLikeKey } from './api-keys.ts'
import { isLoopbackHost } from './loopback.ts'
import { readTenant } from './tenants.ts'

/** Changes of a key or tenant take effect within this time, ms. */
const knownMs = 60_000
/** A new key works within this time, ms. */
const unknownMs = 5_000
const maxWrongKeys = 10_000
/** Keys are required within this time after the first one was created, ms. */
const unconfiguredMs = 10_000

/**
 * API keys and tenants of the object store, cached for a while, and during an outage of the store.
 *
 * @example const accounts = createAccounts({ store, now: Date.now })
 */
export function createAccounts({ store, now }: { store: ObjectStore; now(): number }): Accounts {
  // Wrong keys are kept apart: however many there are, they push no valid one out.
  const wrong = new BoundedMap<string, number>(maxWrongKeys)
  const keyOf = remember({
    load: (hash) => findKey(store, hash),
    freshMs: (stored) => (stored ? knownMs : undefined),
    now,
  })
  const tenantOf = remember({ load: (id) => readTenant(store, id), freshMs: () => knownMs, now })
  const configured = remember({
    load: () => anyKey(store),
    // For good: revoking the last key must lock everybody out, not open the service.
    freshMs: (any) => (any ? Number.POSITIVE_INFINITY : unconfiguredMs),
    now,
  })
  return {
    configured: () => configured(''),
    async tenantOfKey(key) {
      if (!looksLikeKey(key)) return undefined
      const hash = hashOfKey(key)
      if (now() < (wrong.get(hash) ?? 0)) return undefined
      const stored = await keyOf(hash)
      if (stored) return tenantOf(stored.tenant)
      wrong.set(hash, now() + unknownMs)
      return undefined
    },
    knows: (key) => looksLikeKey(key) && keyOf.has(hashOfKey(key)),
    defaultTenant: () => tenantOf(defaultTenant.id),
  }
}

/** The service would be open to everybody. The message is one line with the remedy. */
class KeysRequiredError extends Error {
  override readonly name = 'KeysRequiredError'
  readonly code = 'keys_required'
  readonly retriable = false
}

/**
 * Requires API keys for a service that listens on an address other machines can reach.
 * @throws KeysRequiredError, StoreUnavailableError
 */
export async function assertExposable(host: string, accounts: Accounts): Promise<void> {
  if (isLoopbackHost(host) || (await accounts.configured())) return
  throw new KeysRequiredError(
    `Other machines can reach ${host}, and there are no API keys. Create one with "npx turbine keys create --tenant NAME", or listen on 127.0.0.1.`,
  )
}
