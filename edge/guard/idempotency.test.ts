import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import type { EdgeEnv } from '../deps.ts'
import { receiveBody } from './body.ts'
import { createBodyMemory } from './body-memory.ts'
import { onError } from './errors.ts'
import { createdOnce } from './idempotency.ts'

function things({ sameBody = true } = {}) {
  const { store, objects } = memoryStore()
  const made = new Map<string, string>()
  const state = { fails: false, ids: 0 }
  const log = { warn: () => {}, error: () => {} }
  const deps = { store, log, now: () => 1_790_000_000_000, newId: () => String(++state.ids) }
  const bodies = { memory: createBodyMemory({ bytes: 10_000 }), minRate: 1, streamBytes: 0, decoders: {} }
  const app = new Hono<EdgeEnv>()
  app.onError(onError(log))
  app.use(async (c, next) => {
    c.set('tenant', { id: c.req.header('tenant') ?? 'acme', grants: [], limits: {} })
    await next()
  })
  for (const path of ['/things', '/others'])
    app.post(path, receiveBody({ bodies }, { maxBytes: 1000 }), async (c) => {
      const body = new TextDecoder().decode(c.get('body').bytes)
      const make = async (id: string) => {
        if (state.fails) throw new Error('broken')
        if (!made.has(id)) made.set(id, body)
        return { id }
      }
      return c.json(await createdOnce(c, deps, { prefix: 'thing_', sameBody }, make))
    })
  const ask = async (key: string | undefined, { body = 'a', path = '/things', tenant = 'acme' } = {}) => {
    const headers = { tenant, ...(key === undefined ? {} : { 'idempotency-key': key }) }
    const response = await app.request(path, { method: 'POST', body, headers })
    const answer = (await response.json()) as { id?: string; error?: { code: string } }
    const replayed = response.headers.get('idempotent-replayed')
    return { status: response.status, id: answer.id, code: answer.error?.code, replayed }
  }
  return { ask, made, state, objects }
}

test('without a key every request makes something, and nothing is remembered', async () => {
  const { ask, made, objects } = things()
  const [one, two] = [await ask(undefined), await ask(undefined)]
  expect(one.id).toMatch(/^thing_[a-z\d]+$/)
  expect(two.id).not.toBe(one.id)
  expect(made.size).toBe(2)
  expect(objects.size).toBe(0)
})

test('a repeat is given what the first request made, and says so', async () => {
  const { ask, made } = things()
  const first = await ask('k')
  expect(first).toMatchObject({ status: 200, replayed: null })
  expect(await ask('k')).toEqual({ ...first, replayed: 'true' })
  expect(made.size).toBe(1)
})

test('keys are a tenant’s own, for each route, and not to be read in the store', async () => {
  const { ask, made, objects } = things()
  await ask('secret-key')
  await ask('secret-key', { tenant: 'other' })
  await ask('secret-key', { path: '/others' })
  expect(made.size).toBe(3)
  expect(objects.keys().join()).not.toContain('secret')
})

test('a key with another body or query is 422, except where bodies are not compared', async () => {
  const { ask, made } = things()
  await ask('k')
  expect(await ask('k', { body: 'b' })).toMatchObject({ status: 422, code: 'idempotency_key_reused' })
  expect(await ask('k', { path: '/things?x=1' })).toMatchObject({ status: 422 })
  expect(made.size).toBe(1)
  const streamed = things({ sameBody: false })
  await streamed.ask('k')
  expect(await streamed.ask('k', { body: 'b' })).toMatchObject({ status: 200, replayed: 'true' })
  expect([...streamed.made.values()]).toEqual(['a'])
})

test('what failed is made by the repeat, under the same id, and that is no replay', async () => {
  const { ask, made, state } = things()
  state.fails = true
  expect((await ask('k')).status).toBe(500)
  state.fails = false
  expect(await ask('k')).toMatchObject({ status: 200, replayed: null })
  expect(made.size).toBe(1)
})

test('two at once make one thing', async () => {
  const { ask, made } = things()
  const answers = await Promise.all([ask('k'), ask('k'), ask('k')])
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1)
  expect(made.size).toBe(1)
})

test.each(['', 'x'.repeat(256), 'käse'])('"%s" is no key', async (key) => {
  const { ask, made } = things()
  expect(await ask(key)).toMatchObject({ status: 400, code: 'idempotency_key_invalid' })
  expect(made.size).toBe(0)
})

test.each(['x', 'x'.repeat(255), '8e03978e-40d5-43e8-bc93-6894a57f9324', 'a b~!'])(
  '"%s" is a key',
  async (key) => {
    expect((await things().ask(key)).status).toBe(200)
  },
)
