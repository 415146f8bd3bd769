import { createHash } from 'node:crypto'
import { TurbineError } from '../../edge/contract/errors.ts'
import { keys } from '../../edge/contract/keys.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import type { RecordHandler } from './dead-letters.ts'
import type { Isolation } from './isolation.ts'

export interface CrashMarkOptions {
  store: Pick<ObjectStore, 'get' | 'put' | 'delete'>
  /** What the process has in hand; one for all its consumers. */
  isolation: Isolation
  /** Time for which others wait while a suspect record runs alone, and it for them, ms; default 10,000. */
  holdMs?: number
  /** Unix ms. */
  now(): number
}

/** Processes that died while they handled a record. Absent: none that is known. */
interface CrashMark {
  crashes: number
  /** Those that had nothing else in hand: the record is at fault, unless it was killed from outside. */
  alone: number
}

/** Deaths alone after which a record is given up. With the first death, which left no mark, they are three. */
const maxAlone = 2
/** Deaths after which a record is given up that never ran alone; processes are killed for other reasons too. */
const maxCrashes = 10

/**
 * Detects records that crash the process (an image that crashes the decoder, say), which would be redelivered for ever.
 * A mark in the store counts the attempts of records that another process may have died at, before they begin; others
 * cost nothing. A suspect runs alone, so that others are not given up for it.
 */
export function withCrashMarks(
  handler: RecordHandler,
  { store, isolation, holdMs = 10_000, now }: CrashMarkOptions,
): RecordHandler {
  const startedAt = now()
  /** Marks as this process found them: it has not died since. */
  const found = new Map<string, CrashMark>()

  const markBefore = async (key: string): Promise<CrashMark> => {
    const mark = found.get(key) ?? (await getJson<CrashMark>(store, key)) ?? { crashes: 0, alone: 0 }
    found.set(key, mark)
    return mark
  }

  async function handleMarked(record: ConsumedRecord, signal: AbortSignal): Promise<void> {
    const mark = new StoredMark(store, markOf(record))
    const { crashes, alone } = await markBefore(mark.key)
    if (alone >= maxAlone || crashes >= maxCrashes) throw killed(crashes)
    const companied = { crashes: crashes + 1, alone }
    const run = async () => {
      try {
        await handler.handle(record, signal)
      } catch (error) {
        // It did not get to its end, so what is known of it stays.
        await (signal.aborted && crashes > 0 ? mark.end({ crashes, alone }) : mark.end())
        throw error
      }
      await mark.end()
      found.delete(mark.key)
    }
    const begin = (begun: CrashMark) => mark.set(begun).then(run)
    if (crashes === 0 && !isolation.idle) return isolation.beside(() => begin(companied), signal)
    const onCompany = () => mark.set(companied)
    const lone = { crashes: crashes + 1, alone: alone + 1 }
    const options = { holdMs: crashes === 0 ? 0 : holdMs, onCompany, signal }
    await isolation.alone((hasCompany) => begin(hasCompany ? companied : lone), options)
  }

  return {
    handle: (record, signal) =>
      record.timestamp < (record.ownedSince ?? startedAt)
        ? handleMarked(record, signal)
        : isolation.beside(() => handler.handle(record, signal), signal),
    async onDead(record, cause) {
      await handler.onDead?.(record, cause)
      await store.delete(markOf(record))
      found.delete(markOf(record))
    },
  }
}

/** Mark of one attempt; its writes are serialised. */
class StoredMark {
  readonly key: string
  readonly #store: CrashMarkOptions['store']
  #written: Promise<unknown> = Promise.resolve()
  #ended = false

  constructor(store: CrashMarkOptions['store'], key: string) {
    this.#store = store
    this.key = key
  }

  /** No effect after the end. */
  set(mark: CrashMark): Promise<void> {
    return this.#then(async () => {
      if (!this.#ended) await this.#store.put(this.key, JSON.stringify(mark))
    })
  }

  /** Leaves the mark of earlier attempts, if any. */
  end(before?: CrashMark): Promise<void> {
    return this.#then(async () => {
      this.#ended = true
      if (before) await this.#store.put(this.key, JSON.stringify(before))
      else await this.#store.delete(this.key)
    })
  }

  #then(write: () => Promise<void>): Promise<void> {
    const written = this.#written.then(write)
    this.#written = written.catch(() => {})
    return written
  }
}

/** By its key: copies of a record, as a planner that has died sends again, are one. Keys of strangers are no file names. */
const markOf = ({ topic, key }: ConsumedRecord) =>
  keys.crashMark(topic, createHash('sha256').update(key).digest('hex'))

const killed = (crashes: number) =>
  new TurbineError(`Processes crashed ${crashes + 1} times while handling this record.`, {
    status: 500,
    code: 'process_killed',
    retriable: false,
  })
