import { expect, test } from 'vitest'
import { watchInterruption } from './interruption.ts'
import { FakeSignals } from './signals.fixture.ts'

test('the first signal asks for an end, the second one is the end', () => {
  const signals = new FakeSignals()
  let told = 0
  const { signal } = watchInterruption(signals, () => told++)
  signals.emit('SIGTERM', 'SIGTERM')
  expect(signal.reason).toBe('SIGTERM')
  expect([told, signals.killed]).toEqual([1, []])
  signals.emit('SIGINT', 'SIGINT')
  expect([told, signals.killed]).toEqual([1, ['SIGINT']])
  expect(signals.listenerCount('SIGINT') + signals.listenerCount('SIGTERM')).toBe(0)
})
