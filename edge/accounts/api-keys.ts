import { encodeBase64Url } from 'hono/utils/encode'
import { onlyIf, putJson, readAll } from '../../infra/store/json.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import { keys } from '../contract/keys.ts'
import type { StoredApiKey } from '../contract/tenant.ts'

const prefix = 'sk-turbine-'
const secretBytes = 32
/** 32 bytes in base64url without padding. */
const keyPattern = /^sk-turbine-[\w-]{43}$/
/** Hex digits of a key's hash that are its id. */
const idDigits = 16

/** Whether a text can be a key; what cannot is not looked up. */
export const looksLikeKey = (key: string) => keyPattern.test(key)

/** By which a key is kept. */
export const hashOfKey = (key: string) => sha256(key)

/** What is kept of the key with this hash, or undefined when there is none. */
export const findKey = (store: ObjectStore, hash: string): Promise<StoredApiKey | undefined> =>
  getJson<StoredApiKey>(store, keys.apiKey(hash))

/**
 * Makes a key for a tenant. Only its hash is kept: `key` is not to be had again. `now` is unix ms.
 * @throws StoreUnavailableError
 */
export async function createKey(
  store: ObjectStore,
  { tenant, name = '', now }: { tenant: string; name?: string; now: number },
): Promise<{ key: string; stored: StoredApiKey }> {
  const secret = crypto.getRandomValues(new Uint8Array(secretBytes))
  const key = `${prefix}${encodeBase64Url(secret.buffer).replaceAll('=', '')}`
  const hash = await hashOfKey(key)
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

/** All keys, the oldest first. */
export async function listApiKeys(store: ObjectStore): Promise<StoredApiKey[]> {
  const stored = await readAll<StoredApiKey>(store, keys.apiKeys)
  return stored.sort((a, b) => a.created - b.created || a.id.localeCompare(b.id))
}

/** Deletes a key by its id; what it was, or undefined when there is none. Edges forget it within a minute. */
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

/** Whether any key exists. */
export async function anyKey(store: ObjectStore): Promise<boolean> {
  return (await store.list(keys.apiKeys, { limit: 1 })).objects.length > 0
}

/** SHA-256 in hex. */
export async function sha256(data: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data
  const digest = await crypto.subtle.digest('SHA-256', bytes)
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
