import { describe, expect, test } from 'vitest'
import { PruneController } from './prune-controller.ts'
import type { QueuedImage } from './queue.ts'
import { image, levels, loadOf } from './scenario.fixture.ts'

const maxLevel = levels.length - 1

const waiting = (count: number, rest: Partial<QueuedImage<string>> = {}) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, rest))

describe('the controller', () => {
  const crowd = (now: number, count: number) =>
    loadOf(waiting(count, { deadline: now + 500 }), { drainMs: 1000 })

  test('a lone image is never pruned, however short its deadline', () => {
    const controller = new PruneController()
    expect(controller.decide(crowd(0, 1), 0).level).toBe(0)
    expect(controller.decide(loadOf(waiting(1, { deadline: 50 })), 0).level).toBe(0)
    expect(controller.level).toBe(0)
    expect(controller.decide(crowd(0, 9), 100).level).toBeGreaterThan(0)
    expect(controller.decide(loadOf(waiting(1, { deadline: 250 })), 200).level).toBe(0)
  })

  test('a burst is forgotten while only lone images come', () => {
    const controller = new PruneController({ holdMs: 1000 })
    controller.decide(crowd(0, 30), 0)
    controller.decide(crowd(999, 1), 999)
    expect(controller.level).toBe(maxLevel)
    controller.decide(crowd(1000, 1), 1000)
    expect(controller.level).toBe(0)
  })

  test('rises within one decision, as far as needed', () => {
    const controller = new PruneController()
    expect(controller.decide(crowd(0, 2), 0).level).toBe(0)
    expect(controller.decide(crowd(1, 30), 1)).toMatchObject({ level: maxLevel, feasible: false })
  })

  test('falls after the lower level has held for a while, at once to where it holds', () => {
    const controller = new PruneController({ holdMs: 1000 })
    controller.decide(crowd(0, 30), 0)
    expect(controller.decide(crowd(500, 2), 500).level).toBe(maxLevel)
    expect(controller.decide(crowd(999, 2), 999).level).toBe(maxLevel)
    expect(controller.decide(crowd(1000, 2), 1000).level).toBe(0)
  })

  test('a level that holds only barely is not gone back to', () => {
    const controller = new PruneController({ margin: 0, recoveryMargin: 0.3, holdMs: 1000 })
    expect(controller.decide(crowd(0, 6), 0).level).toBe(2)
    for (let now = 100; now < 5000; now += 100) expect(controller.decide(crowd(now, 5), now).level).toBe(2)
    expect(controller.decide(crowd(6000, 3), 6000).level).toBe(0)
  })

  test('without a hold it follows the need both ways', () => {
    const controller = new PruneController({ holdMs: 0 })
    expect(controller.decide(crowd(0, 30), 0).level).toBe(maxLevel)
    expect(controller.decide(crowd(1, 2), 1).level).toBe(0)
  })
})
