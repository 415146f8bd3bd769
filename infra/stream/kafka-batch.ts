import type { Message } from 'kafkajs'
import type { StreamRecord } from './stream.ts'

/** Size of a batch, or its limit. */
export interface Size {
  bytes: number
  records: number
}

export interface SizedMessage {
  message: Message
  size: Size
}

/** Upper bound of what Kafka adds to a record: lengths, offset, timestamp. */
const recordOverheadBytes = 100

/** Converts a record for kafkajs, without a copy, with an upper bound of its size. */
export function sizedMessage({ key, value, headers }: StreamRecord): SizedMessage {
  const texts = [key, ...Object.entries(headers).flat()]
  const textBytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  const bytes = value.byteLength + textBytes + recordOverheadBytes
  const view = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  return { message: { key, value: view, headers }, size: { bytes, records: 1 } }
}

export function sumOf(sizes: Size[]): Size {
  const sum = { bytes: 0, records: 0 }
  for (const { bytes, records } of sizes) {
    sum.bytes += bytes
    sum.records += records
  }
  return sum
}

/** Counts the first sizes that stay within the limits together; at least one, so that large ones go out too. */
export function countFitting(sizes: Size[], limits: Size): number {
  const sum = { bytes: 0, records: 0 }
  const beyond = sizes.findIndex(({ bytes, records }) => {
    sum.bytes += bytes
    sum.records += records
    return sum.bytes > limits.bytes || sum.records > limits.records
  })
  return beyond < 0 ? sizes.length : Math.max(1, beyond)
}

/** Splits the messages, in order, into parts within the limits. */
export function partsOf(messages: SizedMessage[], limits: Size): SizedMessage[][] {
  const sizes = messages.map(({ size }) => size)
  const parts: SizedMessage[][] = []
  for (let start = 0; start < messages.length; ) {
    const end = start + countFitting(sizes.slice(start, start + limits.records), limits)
    parts.push(messages.slice(start, end))
    start = end
  }
  return parts
}
