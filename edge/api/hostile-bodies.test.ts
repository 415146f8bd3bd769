import { expect, test } from 'vitest'
import { fakeEdge } from '../app.fixture.ts'
import type { ErrorBody } from '../contract/errors.ts'
import { hostileBodies } from './hostile-bodies.fixture.ts'

/** Time on the processor, so that other processes do not matter; what is not bounded takes tens of seconds. */
const maxCpuMs = 1000

const paths = ['/v1/captions', '/v1/chat/completions']

test.each(Object.entries(hostileBodies))('20 MB of %s are refused within little time', async (_, body) => {
  const { app } = fakeEdge()
  const bytes = Buffer.from(body())
  for (const path of paths) {
    const request = {
      method: 'POST',
      body: bytes,
      headers: { 'content-type': 'application/json', 'content-length': String(bytes.length) },
    }
    const before = process.threadCpuUsage()
    const response = await app.request(path, request)
    const { user, system } = process.threadCpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(maxCpuMs)
    expect([400, 415]).toContain(response.status)
    const { error } = (await response.json()) as ErrorBody
    expect(error.message.length).toBeLessThan(400)
    expect(error.param?.length ?? 0).toBeLessThan(100)
  }
})

test.each(['/v1/batches', '/v1/uploads'])('%s takes no body with more than 64 KiB', async (path) => {
  const request = {
    method: 'POST',
    body: JSON.stringify({ filename: 'x'.repeat(65_536) }),
    headers: { 'content-type': 'application/json' },
  }
  expect((await fakeEdge().app.request(path, request)).status).toBe(413)
})
