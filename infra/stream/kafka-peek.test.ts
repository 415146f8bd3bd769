import { setImmediate } from 'node:timers/promises'
import type { Kafka } from 'kafkajs'
import { expect, test } from 'vitest'
import { peekSlices } from './kafka-peek.ts'

test('a crash before the consumer runs rejects the read, and nothing else', async () => {
  const listeners = new Map<string, (event: unknown) => void>()
  const consumer = {
    events: { CRASH: 'crash', GROUP_JOIN: 'join' },
    on: (event: string, listener: (event: unknown) => void) => listeners.set(event, listener),
    async connect() {
      listeners.get('crash')!({ payload: { error: new Error('crashed') } })
      await setImmediate()
    },
    subscribe: async () => {},
    run: async () => {},
    disconnect: async () => {},
  }
  const kafka = { consumer: () => consumer } as unknown as Kafka
  const slices = [{ partition: 0, from: 0n, end: 1n }]
  await expect(peekSlices(kafka, { topic: 't', group: 'g', slices, limit: 1 })).rejects.toThrow('crashed')
})
