import { expect, test } from 'vitest'
import { FairStarts } from './fair-starts.ts'

/** Starts in turns that the test ends. */
function turns(perTurn = 2) {
  const next: (() => void)[] = []
  const starts = new FairStarts({ perTurn, nextTurn: (callback) => next.push(callback) })
  const started: string[] = []
  return {
    started,
    scheduled: next,
    enter(sender: string, name = sender) {
      const turn = starts.enter(sender)
      if (turn) void turn.then(() => started.push(name))
      else started.push(name)
    },
    async endTurn() {
      for (const callback of next.splice(0)) callback()
      await Promise.resolve()
    },
  }
}

test('a burst of one sender is spread over turns, in order, and another sender does not wait for it', async () => {
  const { enter, endTurn, started, scheduled } = turns()
  for (const name of ['a1', 'a2', 'a3', 'a4', 'a5']) enter('a', name)
  enter('b')
  expect(started).toEqual(['a1', 'a2', 'b'])
  await endTurn()
  enter('a', 'a6')
  enter('c')
  expect(started.slice(3)).toEqual(['a3', 'a4', 'c'])
  await endTurn()
  expect(started.slice(6)).toEqual(['a5', 'a6'])
  await endTurn()
  await endTurn()
  expect(scheduled).toHaveLength(0)
})

test('requests one after the other are not held up', async () => {
  const { enter, endTurn, started } = turns()
  for (let turn = 0; turn < 5; turn++) {
    enter('a')
    enter('a')
    expect(started).toHaveLength(2 * turn + 2)
    await endTurn()
  }
})
