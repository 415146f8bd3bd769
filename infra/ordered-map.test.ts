import { expect, test } from 'vitest'
import { mapInOrder } from './ordered-map.ts'

async function arrayOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function* numbers(count: number, onTake: (value: number) => void = () => {}): AsyncGenerator<number> {
  for (let value = 0; value < count; value++) {
    onTake(value)
    yield value
  }
}

/** Work that is finished by hand, in any order. */
function manualWork() {
  const open = new Map<number, () => void>()
  return {
    open,
    work: (value: number) => new Promise<number>((resolve) => open.set(value, () => resolve(value * 10))),
    finish: async (...values: number[]) => {
      for (const value of values) {
        open.get(value)!()
        open.delete(value)
      }
      await settled()
    },
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

test('results come in the order of the items, whichever is ready first', async () => {
  const { work, finish, open } = manualWork()
  const results = arrayOf(mapInOrder(numbers(4), work, { concurrency: 2 }))
  await settled()
  expect([...open.keys()]).toEqual([0, 1])
  await finish(1)
  expect([...open.keys()]).toEqual([0, 2])
  await finish(2, 0)
  await finish(3)
  expect(await results).toEqual([0, 10, 20, 30])
})

test('a slow item stops the work only when the window is full', async () => {
  const { work, finish, open } = manualWork()
  const results = arrayOf(mapInOrder(numbers(9), work, { concurrency: 2, window: 4 }))
  await settled()
  await finish(1)
  await finish(2)
  await finish(3)
  expect([...open.keys()]).toEqual([0])
  await finish(0)
  expect([...open.keys()]).toEqual([4, 5])
  for (const value of [4, 5, 6, 7, 8]) await finish(value)
  expect(await results).toHaveLength(9)
})

test('once aborted no item is taken, and what is under way is still yielded', async () => {
  const { work, finish } = manualWork()
  const controller = new AbortController()
  const { signal } = controller
  const results = arrayOf(mapInOrder(numbers(100), work, { concurrency: 2, signal }))
  await settled()
  controller.abort()
  await finish(1, 0)
  expect(await results).toEqual([0, 10])
})

test('an abort does not wait for a source that says nothing', async () => {
  const controller = new AbortController()
  async function* silent(): AsyncGenerator<number> {
    yield 1
    await new Promise(() => {})
  }
  const { signal } = controller
  const results = arrayOf(mapInOrder(silent(), async (value) => value, { concurrency: 2, signal }))
  await settled()
  controller.abort()
  expect(await results).toEqual([1])
})

test('an error of the source comes after the results before it', async () => {
  async function* broken(): AsyncGenerator<number> {
    yield 1
    throw new Error('source broke')
  }
  const results: number[] = []
  const run = async () => {
    for await (const result of mapInOrder(broken(), async (value) => value, { concurrency: 3 }))
      results.push(result)
  }
  await expect(run()).rejects.toThrow('source broke')
  expect(results).toEqual([1])
})

test('a consumer that leaves ends the taking', async () => {
  let taken = 0
  const map = mapInOrder(
    numbers(1000, () => taken++),
    async (value) => value,
    { concurrency: 2, window: 4 },
  )
  for await (const _ of map) break
  await settled()
  const before = taken
  await settled()
  expect(taken).toBe(before)
  expect(taken).toBeLessThan(10)
})
