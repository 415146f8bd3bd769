import { expect, test, vi } from 'vitest'
import { repeat } from './repeat.ts'

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
