import pLimit from 'p-limit'
import { TurbineError } from '../../edge/contract/errors.ts'
import { keys } from '../../edge/contract/keys.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import type { RecordHandler } from './dead-letters.ts'

export interface CrashMarkOptions {
  store: ObjectStore
  /** Deaths of its process that a record survives; default 10, since processes are killed for other reasons too. */
  maxCrashes?: number
  /** Unix ms. */
  now(): number
}

/** From this many deaths on a suspect runs while no other suspect does: the innocent get away from the guilty. */
const aloneFrom = 2

/**
 * Finds out the record that kills its process (an image that crashes the decoder, say), which would otherwise come
 * again for ever and take its neighbours along. While a record that is older than the process is handled, a mark in
 * the store counts how often that was begun and never ended. Newer records cost nothing: they have not killed yet.
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

/** The time tells a record from one that had its offset before the topic was made anew. */
const markOf = ({ topic, partition, offset, timestamp }: ConsumedRecord) =>
  keys.crashMark(topic, partition, `${offset}-${timestamp}`)

const killed = (crashes: number) =>
  new TurbineError(`The process died ${crashes} times while it worked on this.`, {
    status: 500,
    code: 'process_killed',
    retriable: false,
  })
