import type { IHeaders, KafkaMessage } from 'kafkajs'
import type { ConsumedRecord } from './stream.ts'

/** Converts a record of kafkajs. The last value of a repeated header counts. */
export function consumedRecord(topic: string, partition: number, message: KafkaMessage): ConsumedRecord {
  return {
    topic,
    partition,
    offset: BigInt(message.offset),
    timestamp: Number(message.timestamp),
    key: message.key?.toString() ?? '',
    headers: texts(message.headers ?? {}),
    // A copy: kafkajs gives a view, and one small record would keep everything that was fetched with it in memory.
    value: new Uint8Array(message.value ?? []),
  }
}

function texts(headers: IHeaders): Record<string, string> {
  const entries = Object.entries(headers).map(([name, value]) => {
    const last = Array.isArray(value) ? value.at(-1) : value
    return [name, last?.toString() ?? '']
  })
  return Object.fromEntries(entries)
}
