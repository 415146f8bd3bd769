import { expect, test } from 'vitest'
import { Shutdown } from './shutdown.ts'

test('closes what was opened last first, once, and hands on the time that is left', async () => {
  const shutdown = new Shutdown()
  const closed: string[] = []
  const drains: number[] = []
  for (const name of ['stream', 'consumer', 'server']) {
    shutdown.add(async (drainMs) => {
      closed.push(name)
      drains.push(drainMs)
    })
  }
  await Promise.all([shutdown.run(1_000_000), shutdown.run(1_000_000)])
  expect(closed).toEqual(['server', 'consumer', 'stream'])
  for (const ms of drains) expect(ms).toBeGreaterThan(900_000)
})

test('a part that does not close in time is told of and left, and the others are closed', async () => {
  const limits: number[] = []
  let late = 0
  const shutdown = new Shutdown({
    onLate: () => late++,
    within: async (ms, work) => {
      limits.push(ms)
      return Promise.race([work, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))])
    },
  })
  const closed: string[] = []
  shutdown.add(async () => closed.push('store'))
  shutdown.add(() => new Promise(() => {}))
  await shutdown.run(-60_000)
  expect([closed, late]).toEqual([['store'], 1])
  // Also what is closed when no time is left has some.
  expect(limits).toEqual([250, 250])
})

test('a part that cannot be closed is told of after the others are closed', async () => {
  const shutdown = new Shutdown()
  const closed: string[] = []
  shutdown.add(async () => closed.push('stream'))
  shutdown.add(async () => {
    throw new Error('stuck')
  })
  await expect(shutdown.run(0)).rejects.toThrow('stuck')
  expect(closed).toEqual(['stream'])
})
