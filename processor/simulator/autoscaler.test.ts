import { expect, test } from 'vitest'
import { Autoscaler } from './autoscaler.ts'

const from = (replicas: number, value: number, options = {}) =>
  new Autoscaler({ min: 1, max: 100, scaleDownWindowMs: 0, scaleDownShare: 1, ...options }).decide(
    { values: [value], replicas },
    0,
  )

test('wants ceil(value / target) replicas, as the documentation of Kubernetes has it', () => {
  // A metric of 200m with a target of 100m doubles the replicas, one of 50m halves them.
  expect(from(3, 6)).toBe(6)
  expect(from(4, 2)).toBe(2)
  expect(from(2, 3.2)).toBe(4)
})

test('leaves things as they are within 10 % of the target', () => {
  expect(from(10, 10.99)).toBe(10)
  expect(from(10, 11.01)).toBe(12)
  expect(from(10, 9.01)).toBe(10)
  expect(from(10, 8.99)).toBe(9)
})

test('of several metrics the one that asks for most counts', () => {
  expect(new Autoscaler({ min: 1, max: 9 }).decide({ values: [1.5, 4.2, 0], replicas: 2 }, 0)).toBe(5)
})

test('stays between min and max', () => {
  expect(from(5, 0, { min: 2 })).toBe(2)
  expect(from(5, 50, { max: 7 })).toBe(7)
})

test('takes replicas away only when nothing within the window asked for more', () => {
  const autoscaler = new Autoscaler({ min: 1, max: 100, scaleDownShare: 1 })
  expect(autoscaler.decide({ values: [8], replicas: 4 }, 0)).toBe(8)
  expect(autoscaler.decide({ values: [2], replicas: 8 }, 15_000)).toBe(8)
  expect(autoscaler.decide({ values: [6], replicas: 8 }, 150_000)).toBe(8)
  expect(autoscaler.decide({ values: [2], replicas: 8 }, 300_000)).toBe(6)
  expect(autoscaler.decide({ values: [2], replicas: 6 }, 450_000)).toBe(2)
})

test('a recommendation that the policy held back is not made up for when the load is gone', () => {
  const autoscaler = new Autoscaler({ min: 1, max: 100, scaleUpShare: 1 })
  expect(autoscaler.decide({ values: [90], replicas: 1 }, 0)).toBe(5)
  expect(autoscaler.decide({ values: [2], replicas: 5 }, 15_000)).toBe(5)
})

test('adds at most 4 replicas or 100 % in 15 s, whichever is more', () => {
  const autoscaler = new Autoscaler({ min: 1, max: 100, scaleUpShare: 1 })
  expect(autoscaler.decide({ values: [90], replicas: 1 }, 0)).toBe(5)
  expect(autoscaler.decide({ values: [90], replicas: 5 }, 5_000)).toBe(5)
  expect(autoscaler.decide({ values: [90], replicas: 5 }, 15_000)).toBe(10)
  expect(autoscaler.decide({ values: [90], replicas: 10 }, 30_000)).toBe(20)
})

test('takes at most half of the replicas away in a minute', () => {
  const autoscaler = new Autoscaler({ min: 1, max: 100, scaleDownWindowMs: 0 })
  expect(autoscaler.decide({ values: [1], replicas: 20 }, 0)).toBe(10)
  expect(autoscaler.decide({ values: [1], replicas: 10 }, 15_000)).toBe(10)
  expect(autoscaler.decide({ values: [1], replicas: 10 }, 60_000)).toBe(5)
})

test('the last replica goes after the cool-down, and comes back with the first work', () => {
  const autoscaler = new Autoscaler({ min: 0, max: 5, scaleDownWindowMs: 0, cooldownMs: 60_000 })
  expect(autoscaler.decide({ values: [0.4], replicas: 1 }, 0)).toBe(1)
  expect(autoscaler.decide({ values: [0], replicas: 1 }, 45_000)).toBe(1)
  expect(autoscaler.decide({ values: [0], replicas: 1 }, 60_000)).toBe(0)
  expect(autoscaler.decide({ values: [0], replicas: 0 }, 75_000)).toBe(0)
  expect(autoscaler.decide({ values: [0.1], replicas: 0 }, 90_000)).toBe(1)
})
