import { expect, test } from 'vitest'
import { formBody, resourceEdge } from '../api/resources.fixture.ts'
import { errorOf } from '../app.fixture.ts'
import type { StorageUsage } from '../contract/usage.ts'

const limit = 2000
const tenants = [{ id: 'acme', grants: [], limits: { storageBytes: limit } }]
const tenant = 'acme'

type Edge = ReturnType<typeof resourceEdge>

const usage = (edge: Edge): StorageUsage =>
  JSON.parse(new TextDecoder().decode(edge.objects.get('usage/acme.json')))

async function send(edge: Edge, path: string, bytes: number) {
  const form = new FormData()
  if (path === '/v1/files') form.append('purpose', 'batch')
  form.append(path === '/v1/files' ? 'file' : 'data', new File(['x'.repeat(bytes)], 'a.jsonl'))
  const response = await edge.call('POST', path, { ...(await formBody(form)), tenant })
  const body = (await response.clone().json()) as { id: string }
  return { status: response.status, id: body.id, code: response.ok ? 'ok' : (await errorOf(response)).code }
}

test('files of a tenant are stored up to its limit, and deleting one frees its bytes', async () => {
  const edge = resourceEdge({}, tenants)
  const first = await send(edge, '/v1/files', 900)
  expect(usage(edge)).toMatchObject({ files: 900, uploads: 0 })
  expect(await send(edge, '/v1/files', 1500)).toMatchObject({ status: 403, code: 'storage_limit_exceeded' })
  expect(usage(edge).files).toBe(900)
  expect(edge.kept().filter((key) => key.includes('/content/'))).toHaveLength(1)
  await edge.call('DELETE', `/v1/files/${first.id}`, { tenant })
  expect(usage(edge).files).toBe(0)
  expect((await send(edge, '/v1/files', 1500)).status).toBe(200)
})

test('of files that come at once, no more are stored than the limit', async () => {
  const edge = resourceEdge({}, tenants)
  const sent = await Promise.all(Array.from({ length: 6 }, () => send(edge, '/v1/files', 700)))
  expect(sent.filter(({ code }) => code === 'ok').length).toBeLessThanOrEqual(2)
  expect(usage(edge).files).toBeLessThanOrEqual(limit)
})

test('parts count, and are freed when the upload is cancelled', async () => {
  const edge = resourceEdge({}, tenants)
  const ask = { bytes: 5000, filename: 'a', mime_type: 'application/jsonl', purpose: 'batch' }
  const upload = (await (await edge.call('POST', '/v1/uploads', { json: ask, tenant })).json()) as {
    id: string
  }
  const path = `/v1/uploads/${upload.id}/parts`
  expect((await send(edge, path, 1200)).code).toBe('ok')
  expect((await send(edge, path, 1200)).code).toBe('storage_limit_exceeded')
  expect(usage(edge)).toMatchObject({ files: 0, uploads: 1200 })
  await edge.call('POST', `/v1/uploads/${upload.id}/cancel`, { tenant })
  expect(usage(edge).uploads).toBe(0)
})

test('who is over the limit starts no batch and no upload', async () => {
  const edge = resourceEdge({}, tenants)
  await edge.deps.store.put('usage/acme.json', JSON.stringify({ files: limit, uploads: 0 }))
  const batch = { input_file_id: 'file-1', endpoint: '/v1/captions', completion_window: '24h' }
  expect((await errorOf(await edge.call('POST', '/v1/batches', { json: batch, tenant }))).code).toBe(
    'storage_limit_exceeded',
  )
})

test('without a limit nothing is counted', async () => {
  const edge = resourceEdge()
  await edge.upload('x')
  expect(edge.objects.has('usage/default.json')).toBe(false)
})
