import { expect, test } from 'vitest'
import {
  RecordTooLargeError,
  type StreamRecord,
  StreamUnavailableError,
  UnknownTopicError,
} from '../../infra/stream/stream.ts'
import { fakeBackground, fakeObjects } from './objects.fixture.ts'
import { createProducerPool, type ProducerCalls, type SendOutcome } from './producer-pool.ts'

const record = (key: string): StreamRecord => ({ key, value: new Uint8Array(1), headers: {} })

/** A pool of four whose objects answer as told. */
function poolThat(answer: Partial<ProducerCalls>) {
  const calls: string[] = []
  const { background, works } = fakeBackground()
  const { objects, made } = fakeObjects<ProducerCalls>((name) => ({
    async send(ticket, topic, records) {
      calls.push(`${name} send ${ticket} ${topic} ${records.map(({ key }) => key)}`)
      return answer.send ? answer.send(ticket, topic, records) : { sent: true }
    },
    abandon: async (ticket) => void calls.push(`${name} abandon ${ticket}`),
    fault: answer.fault ?? (async () => undefined),
  }))
  let tickets = 0
  const pool = createProducerPool({ objects, producers: 4, background, newId: () => String(++tickets) })
  return { pool, calls, made, works }
}

test('a key always takes the same way, and keys spread over all of the pool', async () => {
  const { pool, calls, made } = poolThat({})
  for (const key of ['a', 'b', 'a']) await pool.send('t', [record(key)])
  const [first, , third] = calls.map((call) => call.split(' ')[0])
  expect(third).toBe(first)
  for (let key = 0; key < 100; key++) await pool.send('t', [record(`cap_${key}`)])
  expect([...made.keys()].sort()).toEqual(['producer-0', 'producer-1', 'producer-2', 'producer-3'])
})

test('it is done when the producer says so', async () => {
  const outcome = Promise.withResolvers<SendOutcome>()
  const { pool } = poolThat({ send: () => outcome.promise })
  let done = false
  const sending = pool.send('t', [record('a')]).then(() => {
    done = true
  })
  await new Promise(setImmediate)
  expect(done).toBe(false)
  outcome.resolve({ sent: true })
  await sending
})

test.each([
  ['StreamUnavailableError', StreamUnavailableError],
  ['UnknownTopicError', UnknownTopicError],
  ['RecordTooLargeError', RecordTooLargeError],
  ['SomeError', StreamUnavailableError],
])('%s arrives as what it was', async (name, expected) => {
  const { pool } = poolThat({ send: async () => ({ sent: false, name, message: 'Kafka is away.' }) })
  const sending = pool.send('t', [record('a')])
  await expect(sending).rejects.toThrow(expected)
  await expect(sending).rejects.toThrow('Kafka is away.')
})

test('an object that is lost is trouble that passes', async () => {
  const { pool } = poolThat({
    send: async () => {
      throw new Error('Durable Object reset because its code was updated.')
    },
  })
  await expect(pool.send('t', [record('a')])).rejects.toThrow(StreamUnavailableError)
})

test('whoever gives up is not held, and the producer is told', async () => {
  const { pool, calls, works } = poolThat({ send: () => new Promise(() => {}) })
  const caller = new AbortController()
  const sending = pool.send('t', [record('a')], { signal: caller.signal })
  caller.abort('late')
  await expect(sending).rejects.toBe('late')
  await Promise.all(works)
  expect(calls.map((call) => call.split(' ')[1])).toEqual(['send', 'abandon'])
})

test('nothing is sent for somebody who gave up before, or for nobody', async () => {
  const { pool, calls } = poolThat({})
  await expect(pool.send('t', [record('a')], { signal: AbortSignal.abort('late') })).rejects.toBe('late')
  await pool.send('t', [])
  expect(calls).toEqual([])
})

test('it is reachable when a producer reaches Kafka', async () => {
  await poolThat({}).pool.assertReachable()
  const { pool } = poolThat({ fault: async () => 'Kafka cannot be reached.' })
  await expect(pool.assertReachable()).rejects.toThrow('Kafka cannot be reached.')
  const { pool: lost } = poolThat({
    fault: async () => {
      throw new Error('overloaded')
    },
  })
  await expect(lost.assertReachable()).rejects.toThrow(StreamUnavailableError)
})
