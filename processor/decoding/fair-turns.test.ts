import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { FairTurns } from './fair-turns.ts'

/** Turns on a clock that only work moves on; `done` is who had a turn, in order. */
function turns(size = 1) {
  let now = 0
  const fair = new FairTurns({ size, now: () => now })
  const done: string[] = []
  const run = (owner: string, ms: number, signal?: AbortSignal) =>
    fair.run(
      owner,
      async () => {
        await pause(0)
        now += ms
        done.push(owner)
      },
      signal,
    )
  return { run, done, fair }
}

test('an owner of quick work does not wait for every second turn of one with slow work', async () => {
  const { run, done } = turns()
  const slow = Array.from({ length: 5 }, () => run('slow', 1000))
  await Promise.all([...slow, ...Array.from({ length: 50 }, () => run('quick', 10))])
  expect(done.slice(0, 51).filter((owner) => owner === 'slow')).toHaveLength(1)
})

test('who comes back soon has not been forgotten what it took', async () => {
  const { run, done } = turns()
  const quick = Array.from({ length: 20 }, () => run('quick', 10))
  await run('slow', 1000)
  const again = run('slow', 1000)
  await Promise.all([...quick, again])
  expect(done.at(-1)).toBe('slow')
})

test('time that nobody else wanted is free', async () => {
  const { run, done } = turns()
  for (let turn = 0; turn < 5; turn++) await run('alone', 1000)
  const alone = [run('alone', 10), run('alone', 10)]
  await Promise.all([...alone, run('other', 2000), run('other', 10)])
  expect(done.slice(5)).toEqual(['alone', 'other', 'alone', 'other'])
})

test('equals take turns', async () => {
  const { run, done } = turns()
  const owners = ['a', 'a', 'a', 'b', 'b', 'c']
  await Promise.all(owners.map((owner) => run(owner, 10)))
  expect(done).toEqual(['a', 'b', 'c', 'a', 'b', 'a'])
})

test('as many run at once as there are turns, also after work that failed', async () => {
  const { fair } = turns(2)
  let running = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++running)
    await pause(1)
    running--
    throw new Error('failed')
  }
  const results = await Promise.allSettled(Array.from({ length: 6 }, () => fair.run('a', work)))
  expect(results.every(({ status }) => status === 'rejected')).toBe(true)
  expect([most, running]).toEqual([2, 0])
})

test('who gives up waiting gets its reason, and no turn', async () => {
  const { run, done } = turns()
  const first = run('a', 10)
  const controller = new AbortController()
  const given = run('b', 10, controller.signal)
  const reason = new Error('gone')
  controller.abort(reason)
  await expect(given).rejects.toBe(reason)
  await expect(run('b', 10, controller.signal)).rejects.toBe(reason)
  await Promise.all([first, run('b', 10)])
  expect(done).toEqual(['a', 'b'])
})

describe('a turn that takes long', () => {
  /** Turns that end when the test says so. */
  function held(overtime = { afterMs: 100, size: 1 }) {
    let now = 0
    const fair = new FairTurns({ size: 1, overtime, now: () => now })
    const log: string[] = []
    const ends: Record<string, () => void> = {}
    const run = (owner: string, name = owner) =>
      fair.run(owner, async (turn) => {
        turn.onOvertime = () => log.push(`${name} overtime`)
        turn.begin()
        log.push(name)
        await new Promise<void>((resolve) => {
          ends[name] = resolve
        })
      })
    const end = async (name: string) => {
      ends[name]!()
      await pause(1)
    }
    return {
      log,
      run,
      end,
      async wait(ms: number) {
        await pause(0)
        now += ms
        await pause(ms + 1)
      },
    }
  }

  test('goes on beside that of another owner, not beside one of its own', async () => {
    const { log, run, end, wait } = held({ afterMs: 5, size: 1 })
    const all = [run('slow'), run('slow', 'slow again')]
    await wait(20)
    expect(log).toEqual(['slow'])
    all.push(run('quick'))
    await wait(0)
    expect(log).toEqual(['slow', 'slow overtime', 'quick'])
    await end('quick')
    expect(log).toHaveLength(3)
    await end('slow')
    await end('slow again')
    await Promise.all(all)
    expect(log.slice(3)).toEqual(['slow again'])
  })

  test('keeps its place until then, and when as many are in overtime as may be', async () => {
    const { log, run, end, wait } = held({ afterMs: 20, size: 1 })
    const all = [run('slow'), run('other'), run('third')]
    await wait(10)
    expect(log).toEqual(['slow'])
    await wait(20)
    expect(log).toEqual(['slow', 'slow overtime', 'other'])
    await wait(40)
    expect(log).toHaveLength(3)
    await end('slow')
    await wait(0)
    expect(log.slice(3)).toEqual(['other overtime', 'third'])
    for (const name of ['other', 'third']) await end(name)
    await Promise.all(all)
  })

  test('that has not begun keeps its place', async () => {
    const fair = new FairTurns({ size: 1, overtime: { afterMs: 0, size: 1 }, now: () => 0 })
    const started = Promise.withResolvers<void>()
    const done: string[] = []
    const first = fair.run('a', async (turn) => {
      await started.promise
      done.push('a')
      turn.begin()
    })
    const second = fair.run('b', async () => void done.push('b'))
    await pause(5)
    started.resolve()
    await Promise.all([first, second])
    expect(done).toEqual(['a', 'b'])
  })
})
