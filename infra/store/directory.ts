import { randomUUID } from 'node:crypto'
import { link, mkdir, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pLimit from 'p-limit'
import pMap, { pMapSkip } from 'p-map'
import { groupedSyncs, makeDirectory, makePrivateDirectory, privateDirectory } from '../durable.ts'
import { assertKey, InvalidKeyError } from './key.ts'
import { KeyLock } from './key-lock.ts'
import { objectPath } from './key-path.ts'
import { type ListedKey, listKeys } from './list-keys.ts'
import {
  ifExists,
  type ObjectBody,
  type ObjectFileInfo,
  openObjectFile,
  readObjectInfo,
  writeObjectFile,
} from './object-file.ts'
import type { ByteRange } from './range.ts'
import {
  type GetOptions,
  type ListOptions,
  type ListPage,
  type ObjectInfo,
  type ObjectStore,
  PreconditionFailedError,
  type PutOptions,
  type StoredObject,
  StoreUnavailableError,
} from './store.ts'

const maxListLimit = 1000
/** Files of a listing that are open at once. */
const infoConcurrency = 32
/** Files that are open at once, besides those that are streamed, whose number their callers limit. */
const maxOpenFiles = 256

/**
 * The object store of one machine: a folder with one file for each object. A put that resolved survives the death
 * of the process and a power loss; a put that was cut off leaves nothing but a temporary file, which the next open
 * removes. Other users of the machine cannot read it. One process at a time may use the folder; commands that read it or put something small open it as a `guest`,
 * which leaves temporary files alone.
 *
 * @throws StoreUnavailableError when the folder cannot be created or written.
 * @example const store = await openDirectoryStore('.turbine/store')
 */
export async function openDirectoryStore(path: string, { guest = false } = {}): Promise<ObjectStore> {
  const objects = join(path, 'objects')
  const incoming = join(path, 'incoming')
  await guard(async () => {
    if (!guest) await rm(incoming, { recursive: true, force: true })
    await makePrivateDirectory(path)
    await makeDirectory(objects, privateDirectory)
    await mkdir(incoming, { recursive: true, mode: privateDirectory })
  })
  return new DirectoryStore(objects, incoming)
}

class DirectoryStore implements ObjectStore {
  readonly #objects: string
  /** Bodies are written here first: on the same file system, so that the move into place is atomic. */
  readonly #incoming: string
  readonly #locks = new KeyLock()
  readonly #opening = pLimit(maxOpenFiles)
  /** Of results that many requests store at once, most are in one folder. */
  readonly #syncFolder = groupedSyncs()

  constructor(objects: string, incoming: string) {
    this.#objects = objects
    this.#incoming = incoming
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    const path = this.#path(key)
    const etag = randomUUID()
    const temporary = join(this.#incoming, etag)
    const trailer = { etag, contentType: options.contentType ?? 'application/octet-stream' }
    try {
      const place = async () => {
        // Whether there is one already is found by the move, too.
        if (options.ifMatch !== undefined) await assertPrecondition(key, path, options)
        await this.#moveInto(temporary, path, options.ifNoneMatch !== undefined, key)
      }
      const putStream = async (stream: ReadableStream<Uint8Array>) => {
        await this.#opening(() => assertPrecondition(key, path, options))
        await writeObjectFile(temporary, stream, trailer)
        await this.#locks.run(key, () => this.#opening(place))
      }
      const putBytes = async (bytes: Uint8Array | string) => {
        await writeObjectFile(temporary, bytes, trailer)
        await place()
      }
      await guard(() =>
        body instanceof ReadableStream
          ? putStream(body)
          : this.#locks.run(key, () => this.#opening(() => putBytes(body))),
      )
    } catch (error) {
      await rm(temporary, { force: true })
      if (body instanceof ReadableStream && !body.locked) await body.cancel(error)
      throw error
    }
    return { etag }
  }

  async get(key: string, range?: ByteRange, { signal }: GetOptions = {}): Promise<StoredObject | undefined> {
    const path = this.#path(key)
    const found = await guard(() => this.#opening(() => openObjectFile(path, range, signal)))
    if (!found) return undefined
    return { ...infoOf(key, found.info), contentType: found.info.contentType, body: found.body }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const path = this.#path(key)
    const info = await guard(() => this.#opening(() => readObjectInfo(path)))
    return info && infoOf(key, info)
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key)
    await guard(() => this.#locks.run(key, () => ifExists(unlink(path))))
    await removeEmptyFolders(dirname(path), this.#objects)
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    const limit = Math.min(options.limit ?? maxListLimit, maxListLimit)
    const after = options.continuation ? decodeContinuation(options.continuation) : (options.startAfter ?? '')
    return guard(async () => {
      const { keys, more } = await take(listKeys(this.#objects, prefix, after), limit)
      const objects = await this.#infosOf(keys)
      return more ? { objects, continuation: encodeContinuation(keys.at(-1)!.key) } : { objects }
    })
  }

  async close(): Promise<void> {}

  /** Leaves out objects that are deleted meanwhile. */
  #infosOf(keys: ListedKey[]): Promise<ObjectInfo[]> {
    const read = async ({ key, path }: ListedKey) => {
      const info = await this.#opening(() => readObjectInfo(path))
      return info ? infoOf(key, info) : pMapSkip
    }
    return pMap(keys, read, { concurrency: infoConcurrency })
  }

  #path(key: string): string {
    assertKey(key)
    return join(this.#objects, ...objectPath(key))
  }

  /** Moves a file to where its object lives, and makes that durable. `exclusive` fails when there is one already. */
  async #moveInto(temporary: string, path: string, exclusive: boolean, key: string): Promise<void> {
    const folder = dirname(path)
    for (let attempt = 1; ; attempt++) {
      try {
        if (attempt > 1) await makeDirectory(folder, privateDirectory)
        if (exclusive) {
          await link(temporary, path)
          await unlink(temporary)
        } else await rename(temporary, path)
        return await this.#syncFolder(folder)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'EEXIST') throw alreadyExists(key)
        // The folder is new, or a delete removed it because it was empty for a moment.
        if (code !== 'ENOENT' || attempt === 10) throw error
      }
    }
  }
}

async function assertPrecondition(key: string, path: string, options: PutOptions): Promise<void> {
  if (options.ifNoneMatch === undefined && options.ifMatch === undefined) return
  const info = await readObjectInfo(path)
  if (options.ifNoneMatch !== undefined && info) throw alreadyExists(key)
  if (options.ifMatch !== undefined && info?.etag !== options.ifMatch)
    throw new PreconditionFailedError(`The object "${key}" has changed. Read it again before writing.`)
}

const alreadyExists = (key: string) => new PreconditionFailedError(`The object "${key}" exists already.`)

async function removeEmptyFolders(folder: string, root: string): Promise<void> {
  for (let path = folder; path !== root; path = dirname(path)) {
    const removed = await rmdir(path).then(
      () => true,
      () => false,
    )
    if (!removed) return
  }
}

async function take<T>(items: AsyncGenerator<T>, limit: number): Promise<{ keys: T[]; more: boolean }> {
  const keys: T[] = []
  for await (const item of items) {
    if (keys.length === limit) return { keys, more: true }
    keys.push(item)
  }
  return { keys, more: false }
}

function infoOf(key: string, { size, etag, lastModified }: ObjectFileInfo): ObjectInfo {
  return { key, size, etag, lastModified }
}

const encodeContinuation = (key: string) => Buffer.from(key).toString('base64url')
const decodeContinuation = (continuation: string) => Buffer.from(continuation, 'base64url').toString()

/** Translates errors of the file system into those of the store. */
async function guard<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error
    if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG')
      throw new InvalidKeyError('The object key is too long for this file system. Use a shorter key.')
    throw new StoreUnavailableError(`The object store's folder failed: ${error.message}`, { cause: error })
  }
}
