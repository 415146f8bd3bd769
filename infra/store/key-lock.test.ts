import { expect, test } from 'vitest'
import { KeyLock } from './key-lock.ts'

test('work on one key runs one after another, also behind work that failed', async () => {
  const lock = new KeyLock()
  const events: string[] = []
  const work = (name: string, fails: boolean) => async () => {
    events.push(`${name} begins`)
    await new Promise((resolve) => setImmediate(resolve))
    events.push(`${name} ends`)
    if (fails) throw new Error(name)
    return name
  }
  const results = await Promise.allSettled([lock.run('k', work('a', true)), lock.run('k', work('b', false))])
  expect(events).toEqual(['a begins', 'a ends', 'b begins', 'b ends'])
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
})

test('work on other keys does not wait', async () => {
  const lock = new KeyLock()
  void lock.run('k', () => new Promise(() => {}))
  expect(await lock.run('other', async () => 1)).toBe(1)
})
