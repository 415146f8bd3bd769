import type { Changes } from './changes.ts'
import type { BatchWork } from './progress.ts'
import type { WrittenFiles } from './result-files.ts'

export interface EarlyFilesOptions {
  work: Pick<BatchWork, 'complete' | 'isDone'>
  changes: Changes
  /** Whether it is decided how the batch ends. */
  isOver(): boolean
  /** Whether that is kept in the store, so that every planner would write the same files. */
  isKept(): boolean
  /** Writes the files of these shards. */
  write(shards: () => AsyncIterable<number>, signal: AbortSignal): Promise<WrittenFiles>
  /** A place among the few batches that may begin their files early; undefined when all are taken. */
  takePlace(): (() => void) | undefined
}

/**
 * The files of a large batch, begun while its shards are still being done. They become visible only when every shard
 * is in them and the end of the batch is kept; whatever happens until then, nothing of them stays.
 */
export class EarlyFiles {
  readonly #options: EarlyFilesOptions
  #begun: { files: Promise<WrittenFiles>; stop: AbortController } | undefined

  constructor(options: EarlyFilesOptions) {
    this.#options = options
  }

  /** Resolves when they are written; rejects when they have to be written anew. Undefined when none were begun. */
  get files(): Promise<WrittenFiles> | undefined {
    return this.#begun?.files
  }

  begin(signal: AbortSignal): void {
    const { write, takePlace, work } = this.#options
    if (this.#begun || work.complete) return
    const giveBack = takePlace()
    if (!giveBack) return
    const stop = new AbortController()
    const both = AbortSignal.any([signal, stop.signal])
    const files = write(() => this.#shards(both), both)
    // What fails is begun again when all shards are done.
    files.catch(() => {}).finally(giveBack)
    this.#begun = { files, stop }
  }

  /** Gives up what was begun: shards that may be in it have changed, or will. */
  async drop(): Promise<void> {
    const begun = this.#begun
    this.#begun = undefined
    begun?.stop.abort(new Error('The shards change.'))
    await begun?.files.catch(() => {})
  }

  /** Each shard as soon as it is done. */
  async *#shards(signal: AbortSignal): AsyncGenerator<number> {
    const { work, changes, isOver, isKept } = this.#options
    for (let shard = 0; ; shard++) {
      while (!work.isDone(shard) && !work.complete && !isOver()) await changes.next(signal)
      if (!work.isDone(shard)) break
      yield shard
    }
    if (!work.complete) throw new Error('The batch ends early.')
    while (!isKept()) await changes.next(signal)
  }
}
