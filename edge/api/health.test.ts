import { expect, test } from 'vitest'
import { fakeEdge } from '../app.fixture.ts'

test('the process is live whether it is ready or not', async () => {
  const { app } = fakeEdge({ readiness: () => ({ ready: false, checks: {} }) })
  const response = await app.request('/health/live')
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ status: 'ok' })
})

test('ready is 200 with the checks', async () => {
  const response = await fakeEdge().app.request('/health/ready')
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual({ ready: true, checks: { model: { ok: true } } })
})

test('not ready is 503, and the checks say why', async () => {
  const state = { ready: false, checks: { model: { ok: false, message: 'warming up' } } }
  const response = await fakeEdge({ readiness: async () => state }).app.request('/health/ready')
  expect(response.status).toBe(503)
  expect(await response.json()).toEqual(state)
})
