import { expect, test } from 'vitest'
import { completed, fakeEdge } from './app.fixture.ts'
import { replyPath, signReply } from './contract/reply.ts'
import { operationsApp } from './operations.ts'

const replySecret = 'a secret of the fleet'

function reply(app: { request(path: string, init: RequestInit): Response | Promise<Response> }) {
  const signed = signReply(replySecret, 'cap_1', completed('cap_1'), Date.now())
  return app.request(replyPath('cap_1'), { method: 'POST', ...signed })
}

test('with operations apart, callers reach neither metrics nor replies', async () => {
  const { app } = fakeEdge({ replySecret, now: Date.now, operationsApart: true })
  expect((await app.request('/metrics')).status).toBe(404)
  expect((await reply(app)).status).toBe(404)
  expect((await app.request('/health/live')).status).toBe(200)
  expect((await app.request('/health/ready')).status).toBe(200)
})

test('the operations of an edge are metrics, health and replies, and no API', async () => {
  const { deps } = fakeEdge({ replySecret, now: Date.now })
  const app = operationsApp(deps)
  for (const path of ['/metrics', '/health/live', '/health/ready'])
    expect((await app.request(path)).status, path).toBe(200)
  expect((await reply(app)).status).toBe(200)
  expect((await app.request('/v1/models')).status).toBe(404)
})

test('a process without callers takes no replies', async () => {
  const { deps } = fakeEdge({ replySecret, now: Date.now })
  const { readiness, metrics, log } = deps
  expect((await reply(operationsApp({ readiness, metrics, log }))).status).toBe(404)
})
