import { expect, test } from 'vitest'
import { LoadWatch } from './load-watch.ts'

const sight = { taken: 0, lag: 0, batches: [], throughput: 10 }

test('the arrivals of the last half minute, over 70 % of what a replica does unpruned', () => {
  const watch = new LoadWatch()
  // 20/s, then 35/s.
  for (let at = 0; at <= 60_000; at += 5_000)
    watch.look({ ...sight, taken: at <= 30_000 ? at / 50 : 600 + (at - 30_000) * 0.035 }, at)
  expect(watch.desired(sight, 60_000)).toBeCloseTo(35 / 7)
})

test('what waits is to be served within half a minute, and a batch within its window', () => {
  const watch = new LoadWatch()
  watch.look(sight, 0)
  expect(watch.desired({ ...sight, lag: 210 }, 0)).toBeCloseTo(1)
  const batches = [{ batch: 'batch', deadline: 100_000, linesLeft: 1800, maxPrune: 1 }]
  expect(watch.desired({ ...sight, batches }, 0)).toBeCloseTo(2)
})

test('what a replica does is remembered while none serves; before that nothing is known', () => {
  const watch = new LoadWatch()
  expect(watch.desired(sight, 0)).toBeUndefined()
  watch.look(sight, 0)
  watch.look({ ...sight, throughput: undefined }, 5_000)
  expect(watch.desired({ ...sight, lag: 210 }, 5_000)).toBeCloseTo(1)
})
