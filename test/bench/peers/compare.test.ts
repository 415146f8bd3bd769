import { expect, test, vi } from 'vitest'
import { chooseSides, compare, differing, fastest, perImage, ratesOf, ratioOf, type Turn } from './compare.ts'
import type { Peer, PeerAnswer, PeerRequest } from './process.ts'

const answer = (ms: number, ids: number[][] = []): PeerAnswer => ({
  ms,
  cpu_ms: 2 * ms,
  peak_rss_mb: 100,
  ids,
})

/** Takes so many ms an image. */
function peer(ms: number, asked: string[], name: string): Peer {
  return {
    versions: { it: '1' },
    ask: async ({ batch }: PeerRequest) => {
      asked.push(name)
      return answer(ms * batch)
    },
    close: async () => {},
  }
}

test('every side has its turn in every round, and the round before the first is not counted', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => {})
  const asked: string[] = []
  const peers = { a: peer(10, asked, 'a'), b: peer(5, asked, 'b') }
  const turns = (batch: number): Turn[] => Object.keys(peers).map((name) => [name, name, { batch }])
  const { answers, peaks, versions } = await compare('', peers, turns, {
    batches: [4],
    rounds: 2,
    skipped: {},
  })
  expect(asked.join('')).toBe('ababab')
  expect(answers[4]!.a).toHaveLength(2)
  expect(peaks).toEqual({ a: 100, b: 100 })
  expect(versions).toEqual({ a: { it: '1' }, b: { it: '1' } })
  expect(ratesOf(answers)).toEqual({ a: { 4: 100 }, b: { 4: 200 } })
  expect(perImage(answers, ({ cpu_ms }) => cpu_ms)).toEqual({ a: { 4: 20 }, b: { 4: 10 } })
  expect(ratioOf(answers[4]!, 'a', 'b')).toBe(2)
  expect(fastest(ratesOf(answers), 4, ['c', 'a', 'b'])).toBe('b')
})

test('a side that dies on the way is left out, and the others go on', async () => {
  vi.spyOn(console, 'log').mockImplementation(() => {})
  const asked: string[] = []
  let asks = 0
  const dying: Peer = {
    ...peer(1, asked, 'dying'),
    ask: async ({ batch }) => {
      if (++asks === 3) throw new Error('killed')
      return answer(batch)
    },
  }
  const peers = { dying, well: peer(1, asked, 'well') }
  const turns = (batch: number): Turn[] => Object.keys(peers).map((name) => [name, name, { batch }])
  const skipped = {}
  const { answers } = await compare('', peers, turns, { batches: [1, 2], rounds: 3, skipped })
  expect(skipped).toEqual({ dying: 'killed' })
  expect(asks).toBe(3)
  expect(Object.keys(answers[1]!)).toEqual(['well'])
  expect(Object.keys(answers[2]!)).toEqual(['well'])
})

test('what was not measured has no ratio', () => {
  expect(ratioOf({ a: [answer(1)] }, 'a', 'b')).toBeNull()
  expect(ratioOf({ a: [answer(1)] }, undefined, 'a')).toBeNull()
  expect(fastest({}, 8, ['a'])).toBeUndefined()
})

test('captions are compared id by id', () => {
  const answers = {
    turbine: [answer(1, [[1, 2], [3]])],
    same: [answer(1, [[1, 2], [3]])],
    other: [answer(1, [[1, 9], [3]])],
  }
  expect(differing(answers, 'turbine')).toEqual({ turbine: 0, same: 0, other: 1 })
  expect(differing(answers, 'missing')).toEqual({})
})

test('sides are chosen by name', () => {
  const sides = { a: {}, b: {} } as never
  expect(Object.keys(chooseSides(sides, ['b']))).toEqual(['b'])
  expect(Object.keys(chooseSides(sides, ['all']))).toEqual(['a', 'b'])
  expect(Object.keys(chooseSides(sides, []))).toEqual(['a', 'b'])
})
