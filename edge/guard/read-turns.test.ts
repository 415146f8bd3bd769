import { setImmediate as turn } from 'node:timers/promises'
import { Hono } from 'hono'
import { expect, test } from 'vitest'
import type { EdgeEnv } from '../deps.ts'
import { takeReadTurns } from './read-turns.ts'

/** An app whose answers come when told; `?tenant=` says who asks. */
function heldApp() {
  const begun: string[] = []
  const ends: (() => void)[] = []
  const app = new Hono<EdgeEnv>()
  app.onError(() => new Response('left'))
  app.use(async (c, next) => {
    c.set('tenant', { id: c.req.query('tenant')!, grants: [], limits: {} })
    await next()
  })
  app.use(takeReadTurns({ size: 3, perOwner: 2 }))
  app.all('*', async (c) => {
    begun.push(c.req.query('tenant')!)
    if (c.req.method !== 'POST') await new Promise<void>((resolve) => ends.push(resolve))
    return c.text('done')
  })
  const ask = (tenant: string, init?: RequestInit) => app.request(`/?tenant=${tenant}`, init)
  return { ask, begun, ends }
}

test('a read of another tenant does not wait for a thousand of one, nor does what is no read', async () => {
  const { ask, begun, ends } = heldApp()
  const many = Array.from({ length: 1000 }, () => ask('many'))
  await turn()
  const other = ask('other')
  await turn()
  expect(begun).toEqual(['many', 'many', 'other'])
  expect((await ask('many', { method: 'POST' })).status).toBe(200)
  ends[2]!()
  expect((await other).status).toBe(200)
  for (let i = 0; i < 1001; i++) {
    ends[i]!()
    await turn()
  }
  expect((await Promise.all(many)).every(({ status }) => status === 200)).toBe(true)
})

test('who leaves gives the turn back, also while waiting for it', async () => {
  const { ask, begun, ends } = heldApp()
  void ask('a')
  void ask('a')
  const leaving = new AbortController()
  const left = ask('a', { signal: leaving.signal })
  await turn()
  leaving.abort()
  await Promise.resolve(left).catch(() => {})
  const next = ask('a')
  ends[0]!()
  await turn()
  expect(begun).toHaveLength(3)
  ends[2]!()
  expect((await next).status).toBe(200)
})
