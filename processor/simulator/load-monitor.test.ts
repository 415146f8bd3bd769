import { expect, test } from 'vitest'
import { LoadMonitor } from './load-monitor.ts'

const sample = { taken: 0, lag: 0, batches: [], throughput: 10 }

test('the arrivals of the last half minute, over 70 % of what a replica does unpruned', () => {
  const monitor = new LoadMonitor()
  // 20/s, then 35/s.
  for (let at = 0; at <= 60_000; at += 5_000)
    monitor.sample({ ...sample, taken: at <= 30_000 ? at / 50 : 600 + (at - 30_000) * 0.035 }, at)
  expect(monitor.desired(sample, 60_000)).toBeCloseTo(35 / 7)
})

test('what waits is to be served within half a minute, and a batch within its window', () => {
  const monitor = new LoadMonitor()
  monitor.sample(sample, 0)
  expect(monitor.desired({ ...sample, lag: 210 }, 0)).toBeCloseTo(1)
  const batches = [{ batch: 'batch', deadline: 100_000, linesLeft: 1800, maxPrune: 1 }]
  expect(monitor.desired({ ...sample, batches }, 0)).toBeCloseTo(2)
})

test('what a replica does is remembered while none serves; before that nothing is known', () => {
  const monitor = new LoadMonitor()
  expect(monitor.desired(sample, 0)).toBeUndefined()
  monitor.sample(sample, 0)
  monitor.sample({ ...sample, throughput: undefined }, 5_000)
  expect(monitor.desired({ ...sample, lag: 210 }, 5_000)).toBeCloseTo(1)
})
