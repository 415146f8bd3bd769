import { expect, test } from 'vitest'
import { remember } from './remembered.ts'

function remembered(options: { capacity?: number; shared?: boolean } = {}) {
  const state = { now: 0, value: 'first' as string | Error, loads: [] as string[] }
  const lookUp = remember<string>({
    load: async (key) => {
      state.loads.push(key)
      if (state.value instanceof Error) throw state.value
      return state.value
    },
    freshMs: () => 60_000,
    now: () => state.now,
    ...options,
  })
  return { state, lookUp }
}

test('a value is loaded once while it is fresh, and again afterwards', async () => {
  const { state, lookUp } = remembered()
  expect(await lookUp('a')).toBe('first')
  state.value = 'second'
  state.now = 59_999
  expect(await lookUp('a')).toBe('first')
  expect(state.loads).toHaveLength(1)
  state.now = 60_000
  expect(await lookUp('a')).toBe('second')
})

test('through an outage what was known is known, and the source is asked now and then', async () => {
  const { state, lookUp } = remembered()
  await lookUp('a')
  state.value = new Error('away')
  for (state.now = 60_000; state.now < 120_000; state.now += 1000) expect(await lookUp('a')).toBe('first')
  expect(state.loads).toHaveLength(1 + 12)
  state.value = 'second'
  state.now += 5_000
  expect(await lookUp('a')).toBe('second')
})

test('what was never known fails as its source does', async () => {
  const { state, lookUp } = remembered()
  state.value = new Error('away')
  await expect(lookUp('a')).rejects.toBe(state.value)
})

test('while one caller refreshes a value the others are given the old one', async () => {
  const { state, lookUp } = remembered()
  await lookUp('a')
  state.now = 60_000
  state.value = 'second'
  expect(await Promise.all([lookUp('a'), lookUp('a'), lookUp('a')])).toEqual(['second', 'first', 'first'])
  expect(state.loads).toHaveLength(2)
})

test('beyond the capacity the value goes that was asked for longest ago', async () => {
  const { state, lookUp } = remembered({ capacity: 2 })
  for (const key of ['a', 'b', 'a', 'c', 'a', 'b']) await lookUp(key)
  expect(state.loads).toEqual(['a', 'b', 'c', 'b'])
})

test('callers who share are given the load that goes on, each key its own', async () => {
  const { state, lookUp } = remembered({ shared: true })
  expect(await Promise.all([lookUp('a'), lookUp('a'), lookUp('b')])).toEqual(['first', 'first', 'first'])
  expect(state.loads).toEqual(['a', 'b'])
  state.value = 'second'
  state.now = 59_999
  expect(await lookUp('a')).toBe('first')
  state.now = 60_000
  expect(await Promise.all([lookUp('a'), lookUp('a')])).toEqual(['second', 'second'])
  expect(state.loads).toEqual(['a', 'b', 'a'])
})

test('callers who share learn of a failure, and the next one asks again', async () => {
  const { state, lookUp } = remembered({ shared: true })
  await lookUp('a')
  const known = state.value
  state.now = 60_000
  state.value = new Error('away')
  const failed = await Promise.allSettled([lookUp('a'), lookUp('a')])
  expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(state.loads).toHaveLength(2)
  state.value = known
  expect(await lookUp('a')).toBe('first')
})
