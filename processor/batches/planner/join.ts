import { addTallies, emptyTally, type ShardTally } from '../../../edge/contract/shard.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import type { ShardParts } from '../shard/results.ts'

/** Shards that are read at the same time, and those that are held in memory until their turn comes. */
const readsAtOnce = 8
const readAhead = 16

interface JoinTarget {
  store: Pick<ObjectStore, 'put'>
  key: string
}

export interface JoinOptions {
  /** Numbers of the shards in their order. It may wait for one that is not done yet. */
  shards: AsyncIterable<number>
  read(shard: number): Promise<Omit<ShardParts, 'etag'>>
  output: JoinTarget
  errors: JoinTarget
  signal: AbortSignal
}

export interface Joined {
  tally: ShardTally
  outputBytes: number
  errorBytes: number
}

/**
 * Writes the results of shards, one after the other, into the output file and the error file; one that would be
 * empty is not written. Reads ahead, and holds no more than that in memory. A join that fails leaves no file and can
 * be started again.
 */
export async function joinShards({ shards, read, signal, ...targets }: JoinOptions): Promise<Joined> {
  const output = new FileUpload(targets.output)
  const errors = new FileUpload(targets.errors)
  let tally = emptyTally
  try {
    const results = mapInOrder(shards, read, { concurrency: readsAtOnce, window: readAhead })
    for await (const shard of results) {
      signal.throwIfAborted()
      await Promise.all([output.write(shard.output), errors.write(shard.errors)])
      tally = addTallies(tally, shard.tally)
    }
    signal.throwIfAborted()
    await Promise.all([output.end(), errors.end()])
  } catch (error) {
    await Promise.all([output.abort(error), errors.abort(error)])
    throw error
  }
  return { tally, outputBytes: output.bytes, errorBytes: errors.bytes }
}

/** An object that is written piece by piece; the first piece starts it. */
class FileUpload {
  readonly #target: JoinTarget
  #started: { writer: WritableStreamDefaultWriter<Uint8Array>; put: Promise<unknown> } | undefined
  bytes = 0

  constructor(target: JoinTarget) {
    this.#target = target
  }

  /** Resolves when the store is ready for more. */
  async write(piece: Uint8Array): Promise<void> {
    if (piece.length === 0) return
    this.#started ??= this.#start()
    const { writer, put } = this.#started
    this.bytes += piece.length
    await Promise.race([writer.write(piece), put]).catch((error) => this.#fail(error))
  }

  async end(): Promise<void> {
    if (!this.#started) return
    const { writer, put } = this.#started
    await writer.close().catch((error) => this.#fail(error))
    await put
  }

  /** Leaves no object behind. */
  async abort(reason: unknown): Promise<void> {
    // Waits for a reader, which a store that has given up is not.
    this.#started?.writer.abort(reason).catch(() => {})
    await this.#started?.put.catch(() => {})
  }

  #start() {
    const { store, key } = this.#target
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
    const put = store.put(key, readable, { contentType: 'application/jsonl' })
    // Whoever writes next meets the failure.
    put.catch(() => {})
    return { writer: writable.getWriter(), put }
  }

  /** The store that wants no more says why. */
  async #fail(error: unknown): Promise<never> {
    await this.#started?.put
    throw error
  }
}
