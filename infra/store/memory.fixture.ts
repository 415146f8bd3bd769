import { assertKey, assertS3Key } from './key.ts'
import { type ByteRange, resolveRange } from './range.ts'
import { type ObjectInfo, type ObjectStore, PreconditionFailedError, type PutOptions } from './store.ts'

type Body = ConstructorParameters<typeof Response>[0]

interface MemoryObject extends ObjectInfo {
  bytes: Uint8Array<ArrayBuffer>
  contentType: string
}

const compareBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

/** An object store in a map, for tests of what uses one. `asBucket`: with any keys that S3 has. */
export function memoryStore({ asBucket = false } = {}) {
  const assertLegal = asBucket ? assertS3Key : assertKey
  const stored = new Map<string, MemoryObject>()
  let version = 0
  const assertPrecondition = (key: string, { ifNoneMatch, ifMatch }: PutOptions) => {
    if (ifNoneMatch && stored.has(key)) throw new PreconditionFailedError(`"${key}" exists already.`)
    if (ifMatch !== undefined && stored.get(key)?.etag !== ifMatch)
      throw new PreconditionFailedError(`"${key}" has changed.`)
  }
  const infoOf = ({ key, size, etag, lastModified }: MemoryObject) => ({ key, size, etag, lastModified })

  const store: ObjectStore = {
    async put(key, body, options = {}) {
      assertLegal(key)
      const bytes = new Uint8Array(await new Response(body as Body).arrayBuffer())
      assertPrecondition(key, options)
      const etag = String(++version)
      const contentType = options.contentType ?? 'application/octet-stream'
      stored.set(key, { key, size: bytes.length, etag, lastModified: Date.now(), bytes, contentType })
      return { etag }
    },
    async get(key, range?: ByteRange) {
      assertLegal(key)
      const object = stored.get(key)
      if (!object) return undefined
      const { start, end } = resolveRange(object.size, range)
      const body = new Response(object.bytes.subarray(start, end)).body!
      return { ...infoOf(object), contentType: object.contentType, body }
    },
    async head(key) {
      assertLegal(key)
      const object = stored.get(key)
      return object && infoOf(object)
    },
    async delete(key) {
      assertLegal(key)
      stored.delete(key)
    },
    async list(prefix, { limit = 1000, continuation, startAfter = '' } = {}) {
      const after = continuation ?? startAfter
      const keys = [...stored.keys()]
        .filter((key) => key.startsWith(prefix) && compareBytes(key, after) > 0)
        .sort(compareBytes)
      const page = keys.slice(0, limit)
      const objects = page.map((key) => infoOf(stored.get(key)!))
      return keys.length > limit ? { objects, continuation: page.at(-1)! } : { objects }
    },
    close: async () => {},
  }
  return {
    store,
    /** Keys to bytes. */
    objects: {
      has: (key: string) => stored.has(key),
      get: (key: string) => stored.get(key)?.bytes,
      keys: () => [...stored.keys()],
      get size() {
        return stored.size
      },
    },
  }
}
