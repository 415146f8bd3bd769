import { randomUUID } from 'node:crypto'
import type { Kafka, KafkaMessage } from 'kafkajs'
import { within } from '../timing.ts'
import { consumedRecord } from './kafka-record.ts'
import { type Visit, visitGroup } from './kafka-visit.ts'
import type { ConsumedRecord } from './stream.ts'

/** Offsets of a partition: from `from`, below `end`. */
export interface PartitionSlice {
  partition: number
  from: bigint
  end: bigint
}

const timeoutMs = 30_000

/**
 * Reads the first records of each slice, at most `limit`, in a group of its own that never commits. It never waits for
 * new records.
 */
export async function peekSlices(
  kafka: Kafka,
  { topic, group, slices, limit }: { topic: string; group: string; slices: PartitionSlice[]; limit: number },
): Promise<ConsumedRecord[]> {
  const unread = new Map(slices.map((slice) => [slice.partition, slice]))
  const records = new Map(slices.map(({ partition }): [number, ConsumedRecord[]] => [partition, []]))
  for (const { partition, from, end } of slices) if (from >= end) unread.delete(partition)
  if (unread.size === 0 || limit <= 0) return []

  const done = Promise.withResolvers<void>()
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
  const visit: Visit = {
    topic,
    group: `${group}-peek-${randomUUID()}`,
    onJoin(consumer) {
      for (const { partition, from } of unread.values())
        consumer.seek({ topic, partition, offset: String(from) })
    },
    eachBatch: async ({ batch }) => take(batch.partition, batch.messages),
  }
  const late = () => new Error(`Kafka did not deliver the records of ${topic} within ${timeoutMs} ms.`)
  await visitGroup(kafka, visit, () => within(timeoutMs, done.promise, late))
  return [...records.values()].flat()
}
