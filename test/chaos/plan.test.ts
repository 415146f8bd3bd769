import fc from 'fast-check'
import { expect, test } from 'vitest'
import { describePlan, type Fault, isRole, planStorm } from './plan.ts'

const roles = { edge: 2, planner: 2, processor: 2 }
const hostile = ['large-json', 'slow-body', 'head']
const all = { roles, hostile, can: () => true }
const windowOf = ({ atMs, forMs, graceMs }: Fault) => [atMs, atMs + forMs + graceMs] as const

/** Of the union of windows, which are in the order of their begin. */
function lengthOf(windows: (readonly [number, number])[]): number {
  let length = 0
  let until = 0
  for (const [from, to] of windows) {
    length += Math.max(0, to - Math.max(from, until))
    until = Math.max(until, to)
  }
  return length
}

test('the seed decides everything', () => {
  const plan = planStorm({ ...all, seed: 7, stormMs: 480_000 })
  expect(planStorm({ ...all, seed: 7, stormMs: 480_000 })).toEqual(plan)
  expect(planStorm({ ...all, seed: 8, stormMs: 480_000 }).faults).not.toEqual(plan.faults)
  expect(describePlan(plan)).toMatch(/^seed 7: a storm of 480 s with \d+ faults/)
})

test('a long storm has every kind of fault, for every process of a role, and every attack', () => {
  const { faults, hostilities } = planStorm({ ...all, seed: 1, stormMs: 3_600_000 })
  expect(new Set(faults.map(({ action, target }) => `${action} ${target}`)).size).toBe(21)
  for (const role of ['edge', 'planner', 'processor'])
    expect(new Set(faults.filter(({ target }) => target === role).map(({ index }) => index))).toEqual(
      new Set([0, 1]),
    )
  expect(new Set(hostilities.map(({ name }) => name))).toEqual(new Set(hostile))
})

test('at any time there are at most two faults, of different parts, and between the noticed ones it is quiet', () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 60_000, max: 900_000 }), (seed, stormMs) => {
      const { faults } = planStorm({ ...all, seed, stormMs })
      const noticed = faults.filter(({ graceMs }) => graceMs > 0)
      expect(noticed.length).toBeGreaterThan(0)
      expect(lengthOf(noticed.map(windowOf))).toBeLessThan(0.85 * stormMs)
      for (const fault of faults) {
        const [from, to] = windowOf(fault)
        expect(from).toBeGreaterThanOrEqual(0)
        expect(to).toBeLessThanOrEqual(stormMs)
        for (const other of faults) {
          if (other === fault || other.target !== fault.target) continue
          const [start, end] = windowOf(other)
          expect(end < from || to < start).toBe(true)
        }
      }
    }),
  )
})

test('in a hurry there are more faults, and still one at a time of each part', () => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const { faults } = planStorm({ ...all, seed, stormMs: 100_000, hurried: true })
      expect(faults.length).toBeGreaterThan(planStorm({ ...all, seed, stormMs: 100_000 }).faults.length)
      for (const { target, atMs, forMs } of faults)
        for (const other of faults)
          if (other.target === target && other.atMs > atMs) expect(other.atMs).toBeGreaterThan(atMs + forMs)
    }),
  )
})

test('what cannot be done here is not planned', () => {
  const can = (_: string, target: Fault['target']) => isRole(target)
  const { faults } = planStorm({ ...all, can, seed: 3, stormMs: 600_000 })
  expect(new Set(faults.map(({ target }) => target))).toEqual(new Set(['edge', 'planner', 'processor']))
})
