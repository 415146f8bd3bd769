import { expect, test } from 'vitest'
import { BusyShare, BusyTime } from './metrics.ts'

/** Busy for `busyMs` of every 100 ms, for two minutes; the share at its end. */
function after(busyMs: number): { busy: BusyShare; end: number } {
  const busy = new BusyShare()
  let at = 1_790_000_000_000
  for (let turn = 0; turn < 1200; turn++, at += 100) busy.observe({ from: at, to: at + busyMs })
  return { busy, end: at - 100 + busyMs }
}

test.each([0, 25, 50, 100])('busy for %i ms of 100', (busyMs) => {
  const { busy, end } = after(busyMs)
  expect(busy.at(end)).toBeCloseTo(busyMs / 100, 1)
})

test('an idle device is soon idle', () => {
  const { busy, end } = after(100)
  expect(busy.at(end)).toBeGreaterThan(0.99)
  expect(busy.at(end + 10_000)).toBeCloseTo(Math.exp(-1), 2)
  expect(busy.at(end + 60_000)).toBeLessThan(0.01)
})

test('what has not run was idle', () => {
  expect(new BusyShare().at(1_790_000_000_000)).toBe(0)
})

test('time of runs that overlap is counted once', () => {
  const busy = new BusyTime()
  const run = (device: string, from: number, to: number) =>
    busy.observe({ device, from, to, inferenceMs: to - from })
  expect(run('a', 0, 100)).toBe(100)
  // Joined at 50.
  expect(run('a', 50, 130)).toBe(30)
  expect(run('a', 60, 130)).toBe(0)
  expect(run('b', 0, 100)).toBe(100)
  expect(run('a', 200, 210)).toBe(10)
  expect(busy.observe({ device: 'a', from: 210, to: 230, inferenceMs: 15 })).toBe(15)
})
