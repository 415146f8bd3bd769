import { expect, test } from 'vitest'
import type { Lane } from './level.ts'
import { DuplicateImageError, ImageQueue, QueueFullError } from './queue.ts'
import { image } from './scenario.fixture.ts'

const levels = [0, 0.3, 0.6].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio }))

const order = (queue: ImageQueue<string>, lane: Lane = 'interactive') =>
  queue
    .lane(lane)
    .pick(Infinity, Infinity, () => true)
    .map((entry) => entry.image.id)

test('serves a lane by deadline, ties by arrival, and knows the lanes apart', () => {
  const queue = new ImageQueue<string>({ levels })
  queue.add(image('late', { deadline: 900 }), 0)
  queue.add(image('first'), 0)
  queue.add(image('second'), 0)
  queue.add(image('filler', { lane: 'batch', deadline: 1 }), 0)
  expect(order(queue)).toEqual(['first', 'second', 'late'])
  expect(order(queue, 'batch')).toEqual(['filler'])
  expect([queue.size(), queue.size('interactive'), queue.size('batch')]).toEqual([4, 3, 1])
})

test('gives a removed image back once', () => {
  const queue = new ImageQueue<string>({ levels })
  const gone = image('gone')
  queue.add(gone, 0)
  expect(queue.remove('gone')).toBe(gone)
  expect(queue.remove('gone')).toBeUndefined()
  expect(queue.size()).toBe(0)
})

test('says when a lane is full, takes nothing then, and leaves the other lane open', () => {
  const queue = new ImageQueue<string>({ levels, limits: { interactive: 2 } })
  queue.add(image('a'), 0)
  queue.add(image('b'), 0)
  expect(() => queue.add(image('c'), 0)).toThrow(QueueFullError)
  expect(order(queue)).toEqual(['a', 'b'])
  queue.add(image('d', { lane: 'batch' }), 0)
  queue.remove('a')
  queue.add(image('c'), 0)
  expect(order(queue)).toEqual(['b', 'c'])
})

test('rejects a second image of one id and keeps the first', () => {
  const queue = new ImageQueue<string>({ levels })
  queue.add(image('a', { payload: 'first' }), 0)
  expect(() => queue.add(image('a', { payload: 'second' }), 0)).toThrow(DuplicateImageError)
  expect(queue.remove('a')?.payload).toBe('first')
})

test('an image without a deadline is ordered by patience and never pruned', () => {
  const queue = new ImageQueue<string>({ levels, implicitDeadlineMs: { interactive: 1000 } })
  queue.add(image('patient', { deadline: undefined, enqueuedAt: 100 }), 0)
  queue.add(image('before', { deadline: 1099 }), 0)
  queue.add(image('after', { deadline: 1101 }), 0)
  expect(order(queue)).toEqual(['before', 'patient', 'after'])
  const [patient] = queue.lane('interactive').pick(1, 9, (entry) => entry.image.id === 'patient')
  expect(patient).toMatchObject({ deadline: Infinity, minLevel: 0, maxLevel: 0 })
})

test.each([
  [{ maxPrune: 1 }, 0, 2],
  [{ maxPrune: 0.5 }, 0, 1],
  [{ maxPrune: 0 }, 0, 0],
  [{ maxPrune: 1, level: 1 }, 1, 1],
  [{ maxPrune: 0.5, level: 2 }, 1, 1],
  [{ maxPrune: 1, level: 2, deadline: undefined }, 2, 2],
])('%j may run at levels %d to %d', (rest, minLevel, maxLevel) => {
  const queue = new ImageQueue<string>({ levels })
  queue.add(image('a', rest), 0)
  expect(queue.lane('interactive').head).toMatchObject({ minLevel, maxLevel })
})

test('measures the arrivals of each lane', () => {
  const queue = new ImageQueue<string>({ levels })
  for (let i = 0; i < 400; i++) queue.add(image(`${i}`), i * 25)
  expect(queue.arrivalRate('interactive', 10_000)).toBeCloseTo(40, -1)
  expect(queue.arrivalRate('batch', 10_000)).toBe(0)
})
