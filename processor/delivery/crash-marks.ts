import pLimit from 'p-limit'
import { TurbineError } from '../../edge/contract/errors.ts'
import { keys } from '../../edge/contract/keys.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import type { RecordHandler } from './dead-letters.ts'

export interface CrashMarkOptions {
  store: ObjectStore
  /** Maximum crashes of a process per record; default 10, since processes are killed for other reasons too. */
  maxCrashes?: number
  /** Unix ms. */
  now(): number
}

/** Crashes from which on a suspect record runs one at a time, which separates it from innocent ones. */
const aloneFrom = 2

/**
 * Detects records that crash the process (an image that crashes the decoder, say), which would be redelivered for ever.
 * A mark in the store counts unfinished attempts of records that are older than the process; newer ones cost nothing.
 */
export function withCrashMarks(
  handler: RecordHandler,
  { store, maxCrashes = 10, now }: CrashMarkOptions,
): RecordHandler {
  const startedAt = now()
  const alone = pLimit(1)

  return {
    async handle(record, signal) {
      if (record.timestamp >= startedAt) return handler.handle(record, signal)
      const key = markOf(record)
      const crashes = (await getJson<{ crashes: number }>(store, key))?.crashes ?? 0
      if (crashes >= maxCrashes) throw killed(crashes)
      const run = async () => {
        signal.throwIfAborted()
        await store.put(key, JSON.stringify({ crashes: crashes + 1 }))
        await handler.handle(record, signal).finally(() => store.delete(key))
      }
      return crashes < aloneFrom ? run() : alone(run)
    },
    async onDead(record, cause) {
      await handler.onDead?.(record, cause)
      await store.delete(markOf(record))
    },
  }
}

/** The timestamp distinguishes records of a recreated topic. */
const markOf = ({ topic, partition, offset, timestamp }: ConsumedRecord) =>
  keys.crashMark(topic, partition, `${offset}-${timestamp}`)

const killed = (crashes: number) =>
  new TurbineError(`The process crashed ${crashes} times while handling this record.`, {
    status: 500,
    code: 'process_killed',
    retriable: false,
  })
