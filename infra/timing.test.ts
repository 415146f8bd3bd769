import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { repeat, sleep, timeLimit, unlessAborted, untilAborted, valueWithin, within } from './timing.ts'

describe('time limits', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const never = new Promise<string>(() => {})
  const late = () => new Error('late')

  test('a sleep lasts its time, or ends when its signal aborts, and leaves no timer', async () => {
    const woken = vi.fn()
    void sleep(1000).then(woken)
    await vi.advanceTimersByTimeAsync(999)
    expect(woken).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    expect(woken).toHaveBeenCalled()

    const ending = new AbortController()
    const sleeping = sleep(1000, ending.signal)
    ending.abort()
    await sleeping
    await sleep(1000, ending.signal)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('work within its time gives its value or its error', async () => {
    expect(await within(10, Promise.resolve('value'), late)).toBe('value')
    await expect(within(10, Promise.reject(new Error('its own')), late)).rejects.toThrow('its own')
    expect(vi.getTimerCount()).toBe(0)
  })

  test('work that takes too long is given up', async () => {
    const waiting = expect(within(10, never, late)).rejects.toThrow('late')
    await vi.advanceTimersByTimeAsync(10)
    await waiting
  })

  test('a value in time, or none when the time is over or nobody wants it', async () => {
    expect(await valueWithin(0, Promise.resolve('value'))).toBe('value')
    expect(vi.getTimerCount()).toBe(0)
    await expect(valueWithin(10, Promise.reject(new Error('its own')))).rejects.toThrow('its own')
    const waiting = valueWithin(10, never)
    await vi.advanceTimersByTimeAsync(10)
    expect(await waiting).toBeUndefined()
    const ending = new AbortController()
    const unwanted = valueWithin(10, never, ending.signal)
    ending.abort()
    expect(await unwanted).toBeUndefined()
    expect(await valueWithin(10, never, ending.signal)).toBeUndefined()
    await vi.advanceTimersByTimeAsync(0)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('work gives its value unless the signal aborts before', async () => {
    const ending = new AbortController()
    expect(await unlessAborted(Promise.resolve('value'), ending.signal)).toBe('value')
    const given = expect(unlessAborted(never, ending.signal)).rejects.toThrow('over')
    ending.abort(new Error('over'))
    await given
    await expect(unlessAborted(never, ending.signal)).rejects.toThrow('over')
  })

  test('items come until the signal aborts, and their source is closed', async () => {
    const closed = vi.fn()
    async function* items() {
      try {
        yield* ['a', 'b', 'c']
      } finally {
        closed()
      }
    }
    const ending = new AbortController()
    const seen: string[] = []
    for await (const item of untilAborted(items(), ending.signal)) {
      seen.push(item)
      if (item === 'b') ending.abort()
    }
    expect(seen).toEqual(['a', 'b'])
    await vi.waitFor(() => expect(closed).toHaveBeenCalled())
    const broken = async function* () {
      yield 'a'
      throw new Error('its own')
    }
    const reading = async () => {
      for await (const item of untilAborted(broken())) seen.push(item)
    }
    await expect(reading()).rejects.toThrow('its own')
    expect(seen).toEqual(['a', 'b', 'a'])
  })

  test('a time limit aborts with its reason, not before, and not when it was cleared', async () => {
    const [limit, cleared, far] = [10, 10, 2 ** 33].map((ms) => timeLimit(ms, late))
    cleared!.clear()
    await vi.advanceTimersByTimeAsync(9)
    expect(limit!.signal.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    expect(limit!.signal.reason).toEqual(late())
    expect([cleared!.signal.aborted, far!.signal.aborted]).toEqual([false, false])
  })
})

/** Work whose turns come when `turn` is called. */
function start(work: () => Promise<unknown>) {
  const warn = vi.fn()
  let wake = () => {}
  const repeating = repeat(work, {
    everyMs: 20,
    failure: 'it did not work',
    log: { warn },
    sleep: (_, signal) =>
      new Promise((resolve) => {
        wake = resolve
        signal.addEventListener('abort', () => resolve())
      }),
  })
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  const turn = () => {
    wake()
    return settle()
  }
  return { repeating, warn, settle, turn }
}

test('work is done at once, at each turn, and not after the end', async () => {
  const work = vi.fn(async () => {})
  const { repeating, settle, turn } = start(work)
  await settle()
  expect(work).toHaveBeenCalledTimes(1)
  await turn()
  expect(work).toHaveBeenCalledTimes(2)
  await repeating.close()
  await turn()
  expect(work).toHaveBeenCalledTimes(2)
})

test('failures are told once in a row, and the work goes on', async () => {
  const outcomes = ['fails', 'fails', 'works', 'fails']
  const work = async () => {
    if (outcomes.shift() === 'fails') throw new Error('away')
  }
  const { repeating, warn, settle, turn } = start(work)
  await settle()
  for (let i = 0; i < 3; i++) await turn()
  expect(warn.mock.calls).toEqual([
    [{ err: new Error('away') }, 'it did not work'],
    [{ err: new Error('away') }, 'it did not work'],
  ])
  await repeating.close()
})
