import { expect, it } from 'vitest'
import { measureSpeeds } from './speed.ts'

const schedules = [0, 8].map((r) => ({ r: [r], weight: [0] }))

it('is the median over rounds that take turns, the first round not counted', async () => {
  const times = { 0: [900, 100, 400, 100, 90], 8: [700, 50, 50, 10, 80] }
  const runs: number[] = []
  const speeds = await measureSpeeds(schedules, {
    images: 10,
    rounds: 4,
    run: async ({ r }) => {
      runs.push(r[0]!)
      return times[r[0] as 0 | 8].shift()!
    },
  })
  expect(runs).toEqual([0, 8, 0, 8, 0, 8, 0, 8, 0, 8])
  expect(speeds).toEqual([
    { usual: 100, best: 10_000 / 90 },
    { usual: 200, best: 1000 },
  ])
})

it('goes on while a schedule seems no faster than the one before, for a while', async () => {
  const measure = async (times: Record<0 | 8, number[]>) => {
    let runs = 0
    const run = async ({ r }: { r: number[] }) => {
      runs++
      const list = times[r[0] as 0 | 8]
      return list.length > 1 ? list.shift()! : list[0]!
    }
    const speeds = await measureSpeeds(schedules, { images: 1, rounds: 2, mostRounds: 6, run })
    return { runs, best: speeds.map(({ best }) => best) }
  }
  // A neighbour disturbs the second schedule at first.
  expect(await measure({ 0: [100], 8: [100, 300, 200, 110, 50] })).toEqual({
    runs: 2 + 2 * 4,
    best: [10, 20],
  })
  expect(await measure({ 0: [100], 8: [100] })).toEqual({ runs: 2 + 2 * 6, best: [10, 10] })
})
