import { expect, test } from 'vitest'
import { remember } from './remembered.ts'

function remembered(options: { capacity?: number } = {}) {
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
