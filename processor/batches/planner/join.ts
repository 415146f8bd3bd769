import { addTallies, emptyTally, type ShardTally } from '../../../edge/contract/shard.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import type { ShardParts } from '../shard/results.ts'

/** Shards read concurrently, and shards held in memory. */
const readsAtOnce = 8
const readAhead = 16

interface JoinTarget {
  store: Pick<ObjectStore, 'put'>
  key: string
}

export interface JoinOptions {
  /** Numbers of the shards in order; may wait for unfinished ones. */
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
 * Concatenates the results of shards into the output file and the error file; empty files are not written. Memory is
 * bounded by the read-ahead. A failed join leaves no file and can be repeated.
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

/** Upload of an object in pieces; the first piece starts it. */
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
    // Not awaited: it waits for a reader, and a failed store does not read.
    this.#started?.writer.abort(reason).catch(() => {})
    await this.#started?.put.catch(() => {})
  }

  #start() {
    const { store, key } = this.#target
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
    const put = store.put(key, readable, { contentType: 'application/jsonl' })
    // The next write meets the failure.
    put.catch(() => {})
    return { writer: writable.getWriter(), put }
  }

  /** Prefers the store's error, which is the cause. */
  async #fail(error: unknown): Promise<never> {
    await this.#started?.put
    throw error
  }
}
