import { expect, test } from 'vitest'
import { type DeviceTurn, DeviceTurns, headLane } from './device-turns.ts'
import type { Lane } from './level.ts'

/** Models that share devices, each with images that take a time of its own. */
function models(runMs: Record<string, number>) {
  const turns = new DeviceTurns()
  const used = new Map(Object.keys(runMs).map((name) => [name, 0]))
  const order: string[] = []
  let running: { name: string; release(): void } | undefined
  const each = Object.entries(runMs).map(([name, ms]) => {
    const waiting: Record<Lane, number> = { interactive: 0, batch: 0 }
    let turn: DeviceTurn
    const feed = () => {
      const lane = headLane(queue)
      if (lane === undefined || !turn.take('cpu', lane)) return
      waiting[lane]--
      order.push(`${name} ${lane}`)
      running = {
        name,
        release: () => {
          running = undefined
          used.set(name, used.get(name)! + ms)
          turn.release('cpu', ms)
        },
      }
    }
    const queue = {
      waiting: (lane: Lane) => waiting[lane],
      workMs: (lane: Lane) => ms * waiting[lane],
      feed,
    }
    turn = turns.join(queue)
    const add = (lane: Lane, count = 1) => {
      waiting[lane] += count
      feed()
    }
    return [name, { add, turn, waiting }] as const
  })
  return {
    named: new Map(each),
    order,
    used,
    isRunning: () => running?.name,
    /** Ends the run in hand. */
    end: () => running!.release(),
  }
}

const pair = (a: number, b: number) => {
  const world = models({ a, b })
  return { ...world, a: world.named.get('a')!, b: world.named.get('b')! }
}

test('never do two models run on a device, and none waits while it is free', () => {
  const { a, b, order, end, isRunning } = pair(1, 1)
  a.add('batch')
  b.add('batch')
  expect(order).toEqual(['a batch'])
  end()
  expect(order).toEqual(['a batch', 'b batch'])
  end()
  expect(isRunning()).toBeUndefined()
  a.add('batch')
  expect(isRunning()).toBe('a')
})

test('callers go before batches, whichever model they ask', () => {
  const { a, b, order, end } = pair(1, 1)
  a.add('batch', 3)
  b.add('batch', 1)
  b.add('interactive', 2)
  for (let run = 0; run < 5; run++) end()
  expect(order.slice(1, 3)).toEqual(['b interactive', 'b interactive'])
  expect(order.slice(3).toSorted()).toEqual(['a batch', 'a batch', 'b batch'])
})

test.each<Lane>(['interactive', 'batch'])(
  'models with work get equal time in the %s lane, however long their runs are',
  (lane) => {
    const { a, b, used, end } = pair(10, 250)
    a.add(lane, 10_000)
    b.add(lane, 10_000)
    for (let run = 0; run < 1000; run++) end()
    expect(Math.abs(used.get('a')! - used.get('b')!)).toBeLessThanOrEqual(250)
  },
)

test('who was idle gets its share from now on, and no more', () => {
  const { a, b, used, end } = pair(10, 10)
  a.add('batch', 10_000)
  for (let run = 0; run < 1000; run++) end()
  b.add('batch', 1000)
  const before = used.get('a')!
  for (let run = 0; run < 100; run++) end()
  expect(used.get('a')! - before).toBeGreaterThanOrEqual(480)
  expect(used.get('b')).toBeGreaterThanOrEqual(480)
})

test('each knows what the others keep it waiting for', () => {
  const { a, b, end } = pair(10, 250)
  a.add('interactive', 3)
  b.add('interactive', 2)
  expect([a.turn.othersMs('interactive'), b.turn.othersMs('interactive')]).toEqual([500, 20])
  a.turn.expect('cpu', 1234)
  b.turn.expect('cpu', 99)
  expect([a.turn.freeAt('cpu'), b.turn.freeAt('cpu'), b.turn.freeAt('cuda:0')]).toEqual([0, 1234, 0])
  end()
  expect(b.turn.freeAt('cpu')).toBe(0)
})

test('a model goes on with rows that join as long as no other is next', () => {
  const { a, b, end, order } = pair(30, 10)
  a.add('batch')
  expect(a.turn.goOn('cpu', 'batch', 10)).toBe(true)
  // The other has had nothing yet.
  b.add('batch')
  expect([a.turn.others('batch'), b.turn.others('batch')]).toEqual([1, 0])
  expect(a.turn.goOn('cpu', 'batch', 10)).toBe(false)
  expect(b.turn.goOn('cpu', 'batch', 0)).toBe(false)
  a.add('batch')
  end()
  expect(order).toEqual(['a batch', 'b batch'])
  // Now this one has had less.
  expect(b.turn.goOn('cpu', 'batch', 5)).toBe(true)
  expect(b.turn.goOn('cpu', 'batch', 100)).toBe(false)
  // Callers go first, whichever model they ask.
  expect(b.turn.goOn('cpu', 'interactive', 0)).toBe(true)
  a.add('interactive')
  expect(b.turn.goOn('cpu', 'batch', 0)).toBe(false)
})
