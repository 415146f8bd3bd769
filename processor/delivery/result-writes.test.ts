import { expect, test } from 'vitest'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { ResultWrites } from './result-writes.ts'

const { signal } = new AbortController()
const full = () => Promise.reject(new StoreUnavailableError('No space left.'))
const tick = () => new Promise<void>((resolve) => setImmediate(resolve))

test('a write is repeated until it succeeds, and nothing is begun meanwhile', async () => {
  const warnings: string[] = []
  const writes = new ResultWrites({ sleep: tick, log: { warn: (_, message) => void warnings.push(message) } })
  await writes.ready(signal)
  let isFull = true
  let puts = 0
  const put = () => (++puts && isFull ? full() : Promise.resolve('stored'))
  const written = Promise.all([writes.write(put, signal), writes.write(put, signal)])
  await tick()
  let began = false
  const beginning = writes.ready(signal).then(() => {
    began = true
  })
  for (let i = 0; i < 5; i++) await tick()
  expect([began, puts > 4, warnings.length]).toEqual([false, true, 1])
  isFull = false
  expect(await written).toEqual(['stored', 'stored'])
  await beginning
})

test('who waits, or repeats, stops when the process does', async () => {
  const writes = new ResultWrites({ sleep: tick })
  const closing = new AbortController()
  const writing = expect(writes.write(full, closing.signal)).rejects.toThrow('closing')
  await tick()
  const waiting = expect(writes.ready(closing.signal)).rejects.toThrow('closing')
  closing.abort(new Error('closing'))
  await Promise.all([writing, waiting])
  await writes.ready(signal)
})

test('an error that is no outage is thrown', async () => {
  await expect(new ResultWrites().write(() => Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
})
