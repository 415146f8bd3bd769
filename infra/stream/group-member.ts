import { FairBudget } from '../fair-budget.ts'
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
 * retry still counts as held, so a failing handler slows fetching down instead of filling the memory.
 */
export class GroupMember implements Consumer {
  readonly options: ConsumeOptions
  readonly #events: MemberEvents
  readonly #held = new Map<ConsumedRecord, Promise<void>>()
  #heldBytes = 0
  readonly #places: FairBudget | undefined
  /** Held and without a place. */
  readonly #waiting = new Map<ConsumedRecord, AbortController>()
  /** Ends the pauses between attempts. */
  readonly #closing = new AbortController()
  /** Aborts handlers. */
  readonly #abort = new AbortController()
  #closed: Promise<void> | undefined
  inFlight = 0

  constructor(options: ConsumeOptions, events: MemberEvents) {
    this.options = options
    this.#events = events
    const { sharing, maxInFlight: size } = options
    this.#places = sharing && new FairBudget({ size, perOwner: sharing.perOwner })
  }

  /** Records that it can take. */
  get room(): number {
    const { maxInFlight, maxInFlightBytes = Number.POSITIVE_INFINITY, sharing } = this.options
    if (this.#closed || this.#heldBytes >= maxInFlightBytes) return 0
    return maxInFlight + (sharing?.waiting ?? 0) - this.#held.size
  }

  get full(): boolean {
    return this.room === 0
  }

  take(record: ConsumedRecord): void {
    this.#heldBytes += record.value.byteLength
    this.#held.set(record, this.#deliver(record))
  }

  /** Leaves records that wait for a place to others. @returns those that it left */
  leave(isLeft: (record: ConsumedRecord) => boolean): ConsumedRecord[] {
    const left = [...this.#waiting].filter(([record]) => isLeft(record))
    for (const [record, leaving] of left) {
      this.#held.delete(record)
      leaving.abort()
    }
    return left.map(([record]) => record)
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
      if (await this.#inPlace(record, () => this.#handle(record))) {
        // A closed member has released the record already.
        if (!this.#held.delete(record)) return
        this.#heldBytes -= record.value.byteLength
        this.#events.finished(record)
        this.#events.hasRoom()
        return
      }
      if (!this.#held.has(record)) return
      await sleep(backoffMs(++failures), this.#closing.signal)
    }
  }

  /** Runs the work in a place of the record's owner; false when the record is left before there is one. */
  async #inPlace(record: ConsumedRecord, work: () => Promise<boolean>): Promise<boolean> {
    const { sharing } = this.options
    if (!this.#places || !sharing) return work()
    const leaving = new AbortController()
    this.#waiting.set(record, leaving)
    const signal = AbortSignal.any([this.#closing.signal, leaving.signal])
    const priority = sharing.priorityOf?.(record)
    const place = await this.#places
      .reserve(sharing.ownerOf(record), 1, { priority, signal })
      .catch(() => undefined)
    this.#waiting.delete(record)
    record.leavePlace = () => place?.release()
    try {
      return place !== undefined && !signal.aborted && (await work())
    } finally {
      place?.release()
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
