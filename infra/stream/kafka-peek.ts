import { randomUUID } from 'node:crypto'
import type { Kafka, KafkaMessage } from 'kafkajs'
import { valueWithin, within } from '../timing.ts'
import { consumedRecord } from './kafka-record.ts'
import type { ConsumedRecord } from './stream.ts'

/** Offsets of a partition: from `from`, below `end`. */
export interface PartitionSlice {
  partition: number
  from: bigint
  end: bigint
}

const patienceMs = 30_000

/**
 * Reads the first records of each slice, at most `limit`, in a group of its own that never commits. It never waits for
 * records that nobody has sent.
 */
export async function peekSlices(
  kafka: Kafka,
  { topic, group, slices, limit }: { topic: string; group: string; slices: PartitionSlice[]; limit: number },
): Promise<ConsumedRecord[]> {
  const unread = new Map(slices.map((slice) => [slice.partition, slice]))
  const records = new Map(slices.map(({ partition }): [number, ConsumedRecord[]] => [partition, []]))
  for (const { partition, from, end } of slices) if (from >= end) unread.delete(partition)
  if (unread.size === 0 || limit <= 0) return []

  const consumer = kafka.consumer({
    groupId: `${group}-peek-${randomUUID()}`,
    maxWaitTimeInMs: 100,
    allowAutoTopicCreation: false,
    retry: { restartOnFailure: async () => false },
  })
  const done = Promise.withResolvers<void>()
  // It may be rejected before anybody waits for it.
  done.promise.catch(() => {})
  const take = (partition: number, messages: KafkaMessage[]) => {
    const slice = unread.get(partition)
    if (!slice) return
    const read = records.get(partition)!
    const within = messages.filter(({ offset }) => BigInt(offset) >= slice.from && BigInt(offset) < slice.end)
    const wanted = within.slice(0, limit - read.length)
    read.push(...wanted.map((message) => consumedRecord(topic, partition, message)))
    const from = BigInt(messages.at(-1)!.offset) + 1n
    if (from < slice.end && read.length < limit) unread.set(partition, { ...slice, from })
    else unread.delete(partition)
    if (unread.size === 0) done.resolve()
  }
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  consumer.on(consumer.events.GROUP_JOIN, () => {
    for (const { partition, from } of unread.values()) {
      consumer.seek({ topic, partition, offset: String(from) })
    }
  })
  const late = () => new Error(`Kafka did not deliver the records of ${topic} within ${patienceMs} ms.`)
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => take(batch.partition, batch.messages),
    })
    await within(patienceMs, done.promise, late)
    return [...records.values()].flat()
  } finally {
    await valueWithin(patienceMs, Promise.allSettled([consumer.disconnect()]))
  }
}
