import { expect, it } from 'vitest'
import type { Schedule } from '../turbo/schedule.ts'
import { comparison } from './comparison.ts'

const batches = [
  { count: 2, names: ['red', 'blue'] },
  { count: 2, names: ['pink', 'white'] },
  { count: 1, names: ['black'] },
]
const merged = { r: [4], weight: [0] }

/** Merging turns what is pink and black into grey. */
function compare(seen: string[] = []) {
  return comparison({
    batches,
    layers: 1,
    async caption({ names }, { r }: Schedule) {
      seen.push(`${r} ${names.join('+')}`)
      return names.map((name) => (r[0]! > 0 && ['pink', 'black'].includes(name) ? 'grey' : name))
    },
  })
}

it('compares with the unpruned captions of the same pictures', async () => {
  expect((await compare()(merged, 2)).exact).toBe(1)
  expect((await compare()(merged, 4)).exact).toBe(0.75)
  expect((await compare()(merged, 5)).exact).toBe(0.6)
})

it('counts no pictures of a batch beyond those asked for', async () => {
  expect((await compare()(merged, 3)).exact).toBeCloseTo(2 / 3)
})

it('captions only the batches that it needs, and the unpruned ones once', async () => {
  const seen: string[] = []
  const of = compare(seen)
  await of(merged, 2)
  await of({ r: [5], weight: [0] }, 2)
  expect(seen).toEqual(['0 red+blue', '4 red+blue', '5 red+blue'])
})

it('compares with captions of another precision, those of the unpruned schedule too', async () => {
  const unpruned = { r: [0], weight: [0] }
  const of = comparison({
    batches,
    layers: 1,
    caption: async ({ names }) => names.map((name) => (name === 'blue' ? 'grey' : name)),
    reference: async ({ names }) => names,
  })
  expect((await of(unpruned, 4)).exact).toBe(0.75)
})
