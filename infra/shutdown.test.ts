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
