import { expect, it } from 'vitest'
import { captionsOf, halve } from './halving.ts'

const stages = [
  { pictures: 10, keep: 4 },
  { pictures: 30, keep: 2 },
  { pictures: 100, keep: 1 },
]

it('compares fewer and fewer candidates on more and more pictures', async () => {
  const seen: [number, number][] = []
  const best = await halve([3, 9, 1, 7, 5, 8], stages, async (candidate, pictures) => {
    seen.push([pictures, candidate])
    return candidate
  })
  expect(best).toBe(9)
  const on = (pictures: number) => seen.flatMap(([of, candidate]) => (of === pictures ? [candidate] : []))
  expect([on(10), on(30), on(100)]).toEqual([
    [3, 9, 1, 7, 5, 8],
    [9, 8, 7, 5],
    [9, 8],
  ])
})

it('lets more pictures overrule fewer', async () => {
  const scores: Record<string, number[]> = { a: [3, 3, 1], b: [2, 2, 2], c: [1, 1, 3] }
  const score = async (candidate: string, pictures: number) =>
    scores[candidate]![stages.findIndex((stage) => stage.pictures === pictures)]!
  expect(await halve(['a', 'b', 'c'], stages, score)).toBe('b')
})

it('prefers the first of equal ones', async () => {
  expect(await halve(['a', 'b', 'c', 'd', 'e', 'f'], stages, async () => 1)).toBe('a')
})

it('counts captions', () => {
  expect(captionsOf(6, stages)).toBe(6 * 10 + 4 * 20 + 2 * 70)
  expect(captionsOf(1, stages)).toBe(100)
})
