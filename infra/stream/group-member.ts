import { backoffMs } from '../retry.ts'
import { sleep, valueWithin } from '../timing.ts'
import type { ConsumedRecord, ConsumeOptions, Consumer } from './stream.ts'

/** Events of a member, for its group. */
interface MemberEvents {
  finished(record: ConsumedRecord): void
  hasRoom(): void
  /** Records that this member will not finish. */
  release(records: ConsumedRecord[]): void
  /** Called last; resolves when the member's finished records are committed. */
  left(): Promise<void>
}

const defaultDrainMs = 10_000

/**
 * Consumer that runs the handler on records, with retries, and keeps to `maxInFlight`. A record that waits for its
 * retry keeps its place, so a failing handler slows fetching down instead of filling the memory.
 */
export class GroupMember implements Consumer {
  readonly options: ConsumeOptions
  readonly #events: MemberEvents
  readonly #held = new Map<ConsumedRecord, Promise<void>>()
  #heldBytes = 0
  /** Ends the pauses between attempts. */
  readonly #closing = new AbortController()
  /** Aborts handlers. */
  readonly #abort = new AbortController()
  #closed: Promise<void> | undefined
  inFlight = 0

  constructor(options: ConsumeOptions, events: MemberEvents) {
    this.options = options
    this.#events = events
  }

  /** Free places. */
  get room(): number {
    const { maxInFlight, maxInFlightBytes = Number.POSITIVE_INFINITY } = this.options
    if (this.#closed || this.#heldBytes >= maxInFlightBytes) return 0
    return maxInFlight - this.#held.size
  }

  get full(): boolean {
    return this.room === 0
  }

  take(record: ConsumedRecord): void {
    this.#heldBytes += record.value.byteLength
    this.#held.set(record, this.#deliver(record))
  }

  close(drainMs = defaultDrainMs): Promise<void> {
    this.#closed ??= this.#close(drainMs)
    return this.#closed
  }

  async #close(drainMs: number): Promise<void> {
    this.#closing.abort()
    await valueWithin(drainMs, Promise.allSettled(this.#held.values()))
    this.#abort.abort(new Error('The consumer is closing.'))
    const unfinished = [...this.#held.keys()]
    this.#held.clear()
    this.#events.release(unfinished)
    await this.#events.left()
  }

  /** Resolves when the record is finished, or released because the member closes. */
  async #deliver(record: ConsumedRecord): Promise<void> {
    for (let failures = 0; !this.#closing.signal.aborted; ) {
      if (await this.#handle(record)) {
        // A closed member has released the record already.
        if (!this.#held.delete(record)) return
        this.#heldBytes -= record.value.byteLength
        this.#events.finished(record)
        this.#events.hasRoom()
        return
      }
      await sleep(backoffMs(++failures), this.#closing.signal)
    }
  }

  async #handle(record: ConsumedRecord): Promise<boolean> {
    this.inFlight++
    try {
      await this.options.handle(record, this.#abort.signal)
      return true
    } catch (error) {
      // Abort is no error.
      if (!this.#abort.signal.aborted) this.options.onError?.(error)
      return false
    } finally {
      this.inFlight--
    }
  }
}
