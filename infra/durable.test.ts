import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { groupedSyncs } from './durable.ts'

test('who asks while a directory is being synced shares the next sync, and others have their own', async () => {
  const started: { path: string; end(): void; fail(error: Error): void }[] = []
  const sync = groupedSyncs((path) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    started.push({ path, end: resolve, fail: reject })
    return promise
  })
  const ended: string[] = []
  const ask = (name: string, path: string) =>
    sync(path).then(
      () => ended.push(name),
      () => ended.push(`${name} failed`),
    )
  const all = [ask('first', 'a'), ask('second', 'a'), ask('third', 'a'), ask('other', 'b')]
  expect(started.map(({ path }) => path)).toEqual(['a', 'b'])
  started[0]!.fail(new Error('no disk'))
  await nextTurn()
  expect(ended).toEqual(['first failed'])
  expect(started.map(({ path }) => path)).toEqual(['a', 'b', 'a'])
  for (const { end } of started) end()
  await Promise.all(all)
  expect(ended.toSorted()).toEqual(['first failed', 'other', 'second', 'third'])
  void ask('later', 'a')
  expect(started).toHaveLength(4)
})
