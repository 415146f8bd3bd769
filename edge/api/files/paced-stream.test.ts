import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pacedStream, SlowReaderError } from './paced-stream.ts'

const chunk = new Uint8Array(100_000)
const stallMs = 60_000

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

function streamOf(chunks: AsyncGenerator<Uint8Array>, { silent = false } = {}) {
  const ends: unknown[] = []
  const end = (error?: unknown) => void ends.push(error)
  const first = { done: false as const, value: chunk }
  const stream = pacedStream({ first, chunks, stallMs, now: Date.now, end, silent })
  return { reader: stream.getReader(), ends }
}

async function* forever() {
  while (true) yield chunk
}

test('gives every chunk, and ends once', async () => {
  const { reader, ends } = streamOf(
    (async function* () {
      yield chunk
    })(),
  )
  let bytes = 0
  for (let read = await reader.read(); !read.done; read = await reader.read()) bytes += read.value.length
  await reader.cancel()
  expect(bytes).toBe(2 * chunk.length)
  expect(ends).toEqual([undefined])
})

test('a reader that takes nothing for the time that it has is cut off, from the first chunk on', async () => {
  const { reader, ends } = streamOf(forever())
  await vi.advanceTimersByTimeAsync(stallMs)
  await expect(reader.read()).rejects.toThrow(SlowReaderError)
  expect(ends).toEqual([expect.any(SlowReaderError)])
})

test('a reader that takes a chunk in time goes on, while it is fast enough', async () => {
  const { reader, ends } = streamOf(forever())
  for (let n = 0; n < 100; n++) {
    await reader.read()
    await vi.advanceTimersByTimeAsync(10_000)
  }
  expect(ends).toEqual([])
})

test('a reader below the least rate is cut off after two minutes', async () => {
  const { reader, ends } = streamOf(forever())
  const started = Date.now()
  const slowly = async () => {
    while (true) {
      await reader.read()
      await vi.advanceTimersByTimeAsync(30_000)
    }
  }
  await expect(slowly()).rejects.toThrow('The reader took 3.3 kB/s.')
  expect(Date.now() - started).toBe(120_000)
  expect(ends).toHaveLength(1)
})

test('the time that the store takes does not count', async () => {
  const { reader, ends } = streamOf(
    (async function* () {
      for (let n = 0; n < 5; n++) {
        await new Promise((resolve) => setTimeout(resolve, 10 * stallMs))
        yield chunk.subarray(0, 1)
      }
    })(),
  )
  await reader.read()
  for (let n = 0; n < 5; n++) {
    const read = reader.read()
    await vi.advanceTimersByTimeAsync(10 * stallMs)
    expect((await read).done).toBe(false)
  }
  expect(ends).toEqual([])
})

test('a reader that leaves returns the chunks', async () => {
  let returned = false
  const { reader, ends } = streamOf(
    (async function* () {
      try {
        yield* forever()
      } finally {
        returned = true
      }
    })(),
  )
  await reader.read()
  await reader.read()
  await reader.cancel()
  await vi.advanceTimersByTimeAsync(0)
  expect(returned).toBe(true)
  expect(ends).toEqual([undefined])
  expect(vi.getTimerCount()).toBe(0)
})

test('a stream is not failed where its connection is ended instead', async () => {
  const { reader, ends } = streamOf(forever(), { silent: true })
  await vi.advanceTimersByTimeAsync(stallMs)
  expect(ends).toHaveLength(1)
  await reader.cancel()
  expect(ends).toHaveLength(1)
})
