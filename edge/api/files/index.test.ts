import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ObjectStore, StoreUnavailableError } from '../../../infra/store/store.ts'
import { errorOf } from '../../app.fixture.ts'
import { fileSchema, type File as StoredInfo } from '../../contract/file.ts'
import { batchForm, formBody, resourceEdge, startSeconds } from '../resources.fixture.ts'

const text = 'https://example.com/1.jpg\nhttps://example.com/2.jpg\n'

const jsonOf = async <T>(response: Response) => (await response.json()) as T
interface Page {
  data: StoredInfo[]
  first_id: string | null
  last_id: string | null
  has_more: boolean
}

test('a file is kept as it came, can be read, and is gone when it is deleted', async () => {
  const edge = resourceEdge()
  const created = await edge.call('POST', '/v1/files', await batchForm(text))
  expect(created.status).toBe(200)
  const file = fileSchema.strict().parse(await created.json())
  expect(file).toMatchObject({
    object: 'file',
    bytes: text.length,
    created_at: startSeconds,
    filename: 'images.jsonl',
    purpose: 'batch',
    status: 'processed',
  })
  expect(file).not.toHaveProperty('expires_at')

  expect(await (await edge.call('GET', `/v1/files/${file.id}`)).json()).toEqual(file)
  const content = await edge.call('GET', `/v1/files/${file.id}/content`)
  expect(content.status).toBe(200)
  expect(content.headers.get('content-length')).toBe(String(text.length))
  expect(content.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''images.jsonl")
  expect(content.headers.get('x-content-type-options')).toBe('nosniff')
  expect(await content.text()).toBe(text)

  const deleted = await edge.call('DELETE', `/v1/files/${file.id}`)
  expect(await deleted.json()).toEqual({ id: file.id, object: 'file', deleted: true })
  expect(edge.kept()).toEqual([])
  expect((await edge.call('GET', `/v1/files/${file.id}`)).status).toBe(404)
})

test.each([
  [
    'an unknown purpose',
    await batchForm(text, { purpose: 'vision' }),
    400,
    'invalid_value',
    'purpose',
    /"batch"/,
  ],
  ['no purpose', await batchForm(text, { purpose: undefined }), 400, 'missing_required_parameter', 'purpose'],
  ['an unknown field', await batchForm(text, { size: '1' }), 400, 'unknown_parameter', 'size'],
  ['an empty file', await batchForm(''), 400, 'file_empty', 'file'],
  ['a form without a file', await formBody(new FormData()), 400, 'missing_required_parameter', 'file'],
  [
    'half an expiry',
    await batchForm(text, { 'expires_after[seconds]': '3600' }),
    400,
    'missing_required_parameter',
    'expires_after.anchor',
  ],
  [
    'an early expiry',
    await batchForm(text, { 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': '60' }),
    400,
    'invalid_value',
    'expires_after.seconds',
    /from 3600 to 2592000/,
  ],
  [
    'a body that announces too much',
    { headers: { ...(await batchForm(text)).headers, 'content-length': '6000000000' }, body: 'x' },
    413,
    'body_too_large',
    null,
    /POST \/v1\/uploads/,
  ],
  ['JSON', { json: { file: text } }, 415, 'content_type_unsupported', 'content-type', /multipart/],
])('%s is refused, and nothing is left behind', async (_name, sent, status, code, param, message = /\w/) => {
  const edge = resourceEdge()
  const response = await edge.call('POST', '/v1/files', sent)
  const error = await errorOf(response)
  expect([response.status, error.code, error.param]).toEqual([status, code, param])
  expect(error.message).toMatch(message)
  expect(edge.kept()).toEqual([])
})

test('a form that breaks off anywhere leaves nothing behind', async () => {
  const { body, headers } = await batchForm(text)
  const edge = resourceEdge()
  await fc.assert(
    fc.asyncProperty(fc.nat(body.length - 3), async (length) => {
      const response = await edge.call('POST', '/v1/files', { headers, body: body.slice(0, length) })
      expect([response.status, (await errorOf(response)).code]).toEqual([400, 'form_incomplete'])
      expect(edge.kept()).toEqual([])
    }),
  )
})

/** A store that fails where `fails` says so. */
const failing = (store: ObjectStore, fails: (call: string, key: string) => boolean): ObjectStore => {
  const check = (call: string, key: string) => {
    if (fails(call, key)) throw new StoreUnavailableError('away')
  }
  return {
    ...store,
    put: async (key, ...rest) => {
      check('put', key)
      return store.put(key, ...rest)
    },
    get: async (key, ...rest) => {
      check('get', key)
      return store.get(key, ...rest)
    },
  }
}

test.each(['files/default/content/', 'files/default/info/'])(
  'a store that fails at %s is 503',
  async (prefix) => {
    const inner = resourceEdge()
    const store = failing(inner.deps.store, (call, key) => call === 'put' && key.startsWith(prefix))
    const edge = resourceEdge({ store })
    const response = await edge.call('POST', '/v1/files', await batchForm(text))
    expect(response.status).toBe(503)
    expect(await errorOf(response)).toMatchObject({ code: 'store_unavailable' })
    expect(inner.objects.keys().filter((key) => key.includes('/info/'))).toEqual([])
  },
)

test("another tenant's file is not there, in the same words as one that never was", async () => {
  const edge = resourceEdge()
  const id = await edge.upload(text, 'a')
  for (const [method, path] of [
    ['GET', ''],
    ['GET', '/content'],
    ['DELETE', ''],
  ] as const) {
    const foreign = await edge.call(method, `/v1/files/${id}${path}`, { tenant: 'b' })
    const absent = await edge.call(method, `/v1/files/file-none${path}`, { tenant: 'b' })
    expect([foreign.status, absent.status]).toEqual([404, 404])
    const words = (await errorOf(foreign)).message.replace(id, 'file-none')
    expect(words).toBe((await errorOf(absent)).message)
  }
  expect(await jsonOf<Page>(await edge.call('GET', '/v1/files', { tenant: 'b' }))).toMatchObject({ data: [] })
  expect((await edge.call('GET', `/v1/files/${id}`, { tenant: 'a' })).status).toBe(200)
})

test.each(['file-..%2F..%2Fx', 'x', `file-${'a'.repeat(200)}`, 'file-%00'])('%s is no file', async (id) => {
  expect((await resourceEdge().call('GET', `/v1/files/${id}`)).status).toBe(404)
})

test('a file whose time is over is gone with its bytes', async () => {
  const edge = resourceEdge()
  const expiry = { 'expires_after[anchor]': 'created_at', 'expires_after[seconds]': '3600' }
  const { id, expires_at } = await jsonOf<StoredInfo>(
    await edge.call('POST', '/v1/files', await batchForm(text, expiry)),
  )
  expect(expires_at).toBe(startSeconds + 3600)
  edge.later(3599)
  expect((await edge.call('GET', `/v1/files/${id}`)).status).toBe(200)
  edge.later(1)
  expect((await edge.call('GET', `/v1/files/${id}/content`)).status).toBe(404)
  expect(edge.kept()).toEqual([])
})

test('a deletion that fails on the way can be repeated', async () => {
  const inner = resourceEdge()
  const id = await inner.upload(text)
  let away = true
  const store: ObjectStore = {
    ...inner.deps.store,
    delete: async (key) => {
      if (away && key.includes('/content/')) throw new StoreUnavailableError('away')
      return inner.deps.store.delete(key)
    },
  }
  const edge = resourceEdge({ store })
  expect((await edge.call('DELETE', `/v1/files/${id}`)).status).toBe(503)
  away = false
  expect((await edge.call('DELETE', `/v1/files/${id}`)).status).toBe(200)
  expect(inner.kept()).toEqual([])
})

test('the newest file is first, and each page starts behind the one before', async () => {
  const edge = resourceEdge()
  const ids: string[] = []
  for (let count = 0; count < 5; count++) {
    ids.unshift(await edge.upload(text))
    edge.later(1)
  }
  const list = async (query: string) => jsonOf<Page>(await edge.call('GET', `/v1/files${query}`))
  const first = await list('?limit=2')
  expect(first).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true })
  expect(first.data.map(({ id }) => id)).toEqual(ids.slice(0, 2))
  const second = await list(`?limit=3&after=${first.last_id}`)
  expect(second.data.map(({ id }) => id)).toEqual(ids.slice(2))
  expect(second.has_more).toBe(false)
  expect((await list('')).data.map(({ id }) => id)).toEqual(ids)
  expect((await list('?order=asc&limit=2')).data.map(({ id }) => id)).toEqual([ids[4], ids[3]])
  expect((await list(`?order=asc&after=${ids[3]}`)).data.map(({ id }) => id)).toEqual(
    ids.slice(0, 3).reverse(),
  )
})

test('a purpose picks files out', async () => {
  const edge = resourceEdge()
  await edge.upload(text)
  const file: StoredInfo = {
    id: 'file-out',
    object: 'file',
    bytes: 0,
    created_at: startSeconds,
    filename: 'out.jsonl',
    purpose: 'batch_output',
    status: 'processed',
  }
  await edge.keepOutput('default', { file, slices: [] })
  const list = async (purpose: string) =>
    (await jsonOf<Page>(await edge.call('GET', `/v1/files?purpose=${purpose}`))).data.map(
      ({ purpose }) => purpose,
    )
  expect(await list('batch')).toEqual(['batch'])
  expect(await list('batch_output')).toEqual(['batch_output'])
})

test.each([
  'limit=0',
  'limit=10001',
  'limit=x',
  'order=up',
  'purpose=vision',
  'size=1',
  'after=a&after=b',
  'after=..%2F',
])('a list with %s is refused', async (query) =>
  expect((await resourceEdge().call('GET', `/v1/files?${query}`)).status).toBe(400),
)

test('a repeat with the same idempotency key makes no second file', async () => {
  const edge = resourceEdge()
  const send = async () => {
    const { body, headers } = await batchForm(text)
    return edge.call('POST', '/v1/files', { body, headers: { ...headers, 'idempotency-key': 'k' } })
  }
  const first = await jsonOf<StoredInfo>(await send())
  const kept = edge.kept()
  const repeated = await send()
  expect(await repeated.json()).toEqual(first)
  expect(repeated.headers.get('idempotent-replayed')).toBe('true')
  expect(edge.kept()).toEqual(kept)
})

test('two that make the same file at a time keep the bytes of one', async () => {
  const inner = resourceEdge()
  const both = Promise.withResolvers<void>()
  let begun = 0
  const store: ObjectStore = {
    ...inner.deps.store,
    put: async (key, ...rest) => {
      if (key.includes('/content/') && ++begun === 2) both.resolve()
      if (key.includes('/content/')) await both.promise
      return inner.deps.store.put(key, ...rest)
    },
  }
  const edge = resourceEdge({ store })
  const { body, headers } = await batchForm(text)
  const send = async () => {
    const response = await edge.call('POST', '/v1/files', {
      body,
      headers: { ...headers, 'idempotency-key': 'k' },
    })
    return jsonOf<StoredInfo>(response)
  }
  const [first, second] = await Promise.all([send(), send()])
  expect(first).toEqual(second)
  expect(inner.kept()).toHaveLength(2)
  expect(await (await edge.call('GET', `/v1/files/${first.id}/content`)).text()).toBe(text)
})
