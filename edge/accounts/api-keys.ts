import { createHash, randomBytes } from 'node:crypto'
import { onlyIf, putJson, readAll } from '../../infra/store/json.ts'
import { type DamagedObjectError, getJson, type ObjectStore } from '../../infra/store/store.ts'
import { keys } from '../contract/keys.ts'
import { type StoredApiKey, storedApiKeySchema } from '../contract/tenant.ts'

const prefix = 'sk-turbine-'
const secretBytes = 32
/** 32 bytes in base64url without padding. */
const keyPattern = /^sk-turbine-[\w-]{43}$/
/** Hex digits of a key's hash that are its id. */
const idDigits = 16

/** Keys that do not look like one are not looked up. */
export const looksLikeKey = (key: string) => keyPattern.test(key)

export const hashOfKey = (key: string) => sha256(key)

export const findKey = (store: ObjectStore, hash: string): Promise<StoredApiKey | undefined> =>
  getJson<StoredApiKey>(store, keys.apiKey(hash))

/**
 * Creates a key for a tenant. Only its hash is stored: `key` cannot be retrieved later. `now` is unix ms.
 * @throws StoreUnavailableError
 */
export async function createKey(
  store: ObjectStore,
  { tenant, name = '', now }: { tenant: string; name?: string; now: number },
): Promise<{ key: string; stored: StoredApiKey }> {
  const key = `${prefix}${randomBytes(secretBytes).toString('base64url')}`
  const hash = hashOfKey(key)
  const stored: StoredApiKey = {
    id: `key_${hash.slice(0, idDigits)}`,
    tenant,
    hint: key.slice(0, prefix.length + 4),
    name,
    created: Math.floor(now / 1000),
  }
  await putJson(store, keys.apiKey(hash), stored, onlyIf(undefined))
  return { key, stored }
}

/** Lists all keys but damaged ones, oldest first. */
export async function listApiKeys(
  store: ObjectStore,
  onDamaged: (error: DamagedObjectError) => void = () => {},
): Promise<StoredApiKey[]> {
  const read = (value: unknown) => storedApiKeySchema.parse(value)
  const stored = await readAll(store, keys.apiKeys, { read, onDamaged })
  return stored.sort((a, b) => a.created - b.created || a.id.localeCompare(b.id))
}

/** Deletes a key by its id; takes effect within a minute. @returns the deleted key */
export async function revokeKey(store: ObjectStore, id: string): Promise<StoredApiKey | undefined> {
  const digits = /^key_([\da-f]{16})$/.exec(id)?.[1]
  if (digits === undefined) return undefined
  const { objects } = await store.list(`${keys.apiKeys}${digits}`, { limit: 1 })
  const [object] = objects
  if (!object) return undefined
  const stored = await getJson<StoredApiKey>(store, object.key)
  await store.delete(object.key)
  return stored
}

export async function anyKey(store: ObjectStore): Promise<boolean> {
  return (await store.list(keys.apiKeys, { limit: 1 })).objects.length > 0
}

/** SHA-256 in hex. */
export const sha256 = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex')
