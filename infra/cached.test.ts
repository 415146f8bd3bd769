import { expect, test } from 'vitest'
import { cached } from './cached.ts'

test('a value is looked up once in a while for each key, however many ask', async () => {
  let now = 0
  const looks: string[] = []
  const look = cached({
    load: async (key) => {
      looks.push(key)
      return `${key}${looks.length}`
    },
    forMs: 1000,
    now: () => now,
  })
  expect(await Promise.all([look('a'), look('a'), look('b')])).toEqual(['a1', 'a1', 'b2'])
  now = 999
  expect(await look('a')).toBe('a1')
  now = 1000
  expect(await look('a')).toBe('a3')
  expect(looks).toEqual(['a', 'b', 'a'])
})

test('a look that failed is made again for whoever asks next', async () => {
  let fails = true
  const look = cached({
    load: async () => {
      if (fails) throw new Error('away')
      return 1
    },
    forMs: 1000,
    now: () => 0,
  })
  await expect(look('a')).rejects.toThrow('away')
  fails = false
  expect(await look('a')).toBe(1)
})
