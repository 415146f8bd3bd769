import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { errorOf } from '../../app.fixture.ts'
import { type Upload, type UploadPart, uploadPartSchema, uploadSchema } from '../../contract/file.ts'
import { formBody, resourceEdge, startSeconds } from '../resources.fixture.ts'

type Edge = ReturnType<typeof resourceEdge>

const ask = { bytes: 8, filename: 'images.jsonl', mime_type: 'application/jsonl', purpose: 'batch' }

const begin = async (edge: Edge, fields: object = {}) =>
  (await (await edge.call('POST', '/v1/uploads', { json: { ...ask, ...fields } })).json()) as Upload

async function addPart(edge: Edge, upload: string, text: string): Promise<string> {
  const form = new FormData()
  form.append('data', new File([text], 'part'))
  const response = await edge.call('POST', `/v1/uploads/${upload}/parts`, await formBody(form))
  return ((await response.json()) as UploadPart).id
}

const finish = (edge: Edge, upload: string, part_ids: string[], md5?: string) =>
  edge.call('POST', `/v1/uploads/${upload}/complete`, { json: { part_ids, md5 } })

const contentOf = async (edge: Edge, file: string) =>
  (await edge.call('GET', `/v1/files/${file}/content`)).text()

test('parts that came in any order are the file in the order of their ids', async () => {
  const edge = resourceEdge()
  const upload = uploadSchema.strict().parse(await begin(edge))
  expect(upload).toMatchObject({
    status: 'pending',
    file: null,
    created_at: startSeconds,
    expires_at: startSeconds + 3600,
  })
  const second = await addPart(edge, upload.id, '4567')
  const first = await addPart(edge, upload.id, '0123')
  edge.later(10)
  const completed = uploadSchema.strict().parse(await (await finish(edge, upload.id, [first, second])).json())
  expect(completed).toMatchObject({
    id: upload.id,
    status: 'completed',
    file: {
      object: 'file',
      bytes: 8,
      created_at: startSeconds + 10,
      filename: ask.filename,
      purpose: 'batch',
    },
  })
  expect(await contentOf(edge, completed.file!.id)).toBe('01234567')
})

test('a part says to which upload it belongs', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const form = new FormData()
  form.append('data', new File(['x'], 'part'))
  const response = await edge.call('POST', `/v1/uploads/${id}/parts`, await formBody(form))
  expect(uploadPartSchema.strict().parse(await response.json())).toMatchObject({ upload_id: id })
})

test('a completion can be repeated, also with parts that are not in the file', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const parts = [await addPart(edge, id, '0123'), await addPart(edge, id, '4567')]
  const first = (await (await finish(edge, id, parts)).json()) as Upload
  expect(await (await finish(edge, id, parts)).json()).toEqual(first)
  expect(await (await finish(edge, id, parts.toReversed())).json()).toEqual(first)
  expect(await contentOf(edge, first.file!.id)).toBe('01234567')
})

test('a completion that died before the file was kept is made up for', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const parts = [await addPart(edge, id, '01234567')]
  const { file } = (await (await finish(edge, id, parts)).json()) as Upload
  await edge.deps.store.delete(`files/default/info/${file!.id}.json`)
  expect((await finish(edge, id, parts)).status).toBe(200)
  expect(await contentOf(edge, file!.id)).toBe('01234567')
})

test('parts that are not named are removed, and with the file the others', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const part = await addPart(edge, id, '01234567')
  // Two that came at the same time.
  await edge.deps.store.put(`uploads/default/content/${id}/part_again`, 'again')
  const { file } = (await (await finish(edge, id, [part])).json()) as Upload
  const parts = () => edge.kept().filter((key) => key.startsWith('uploads/default/content/'))
  expect(parts()).toEqual([`uploads/default/content/${id}/${part}`])
  await edge.call('DELETE', `/v1/files/${file!.id}`)
  expect(parts()).toEqual([])
})

test('the file expires as the upload said', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge, { expires_after: { anchor: 'created_at', seconds: 7200 } })
  edge.later(60)
  const { file } = (await (await finish(edge, id, [await addPart(edge, id, '01234567')])).json()) as Upload
  expect(file!.expires_at).toBe(startSeconds + 60 + 7200)
})

test('an MD5 is checked, in letters of either size', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const parts = [await addPart(edge, id, '0123'), await addPart(edge, id, '4567')]
  const wrong = await finish(edge, id, parts.toReversed(), createHash('md5').update('01234567').digest('hex'))
  expect(wrong.status).toBe(400)
  expect(await errorOf(wrong)).toMatchObject({ code: 'md5_mismatch', param: 'md5' })
  const md5 = createHash('md5').update('01234567').digest('hex').toUpperCase()
  expect((await finish(edge, id, parts, md5)).status).toBe(200)
})

test('parts must be there, once each, and have the bytes that were announced', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const part = await addPart(edge, id, '0123')
  const codeOf = async (ids: string[]) => {
    const response = await finish(edge, id, ids)
    expect(response.status).toBe(400)
    return (await errorOf(response)).code
  }
  expect(await codeOf([part])).toBe('bytes_mismatch')
  expect(await codeOf([part, part])).toBe('part_repeated')
  expect(await codeOf([part, 'part_none'])).toBe('part_not_found')
  expect(await codeOf([part, '../x'])).toBe('part_not_found')
  expect(await codeOf([])).toBe('invalid_value')
  expect((await finish(edge, id, [part, await addPart(edge, id, '4567')])).status).toBe(200)
})

test('an upload that is cancelled has no parts and takes none', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const part = await addPart(edge, id, '01234567')
  const cancelled = await edge.call('POST', `/v1/uploads/${id}/cancel`)
  expect(await cancelled.json()).toMatchObject({ id, status: 'cancelled', file: null })
  expect(edge.kept()).toEqual([`uploads/default/info/${id}.json`])
  const form = new FormData()
  form.append('data', new File(['x'], 'part'))
  const late = await edge.call('POST', `/v1/uploads/${id}/parts`, await formBody(form))
  expect([late.status, (await errorOf(late)).code]).toEqual([400, 'upload_not_pending'])
  expect((await errorOf(await finish(edge, id, [part]))).code).toBe('upload_not_pending')
  expect((await edge.call('POST', `/v1/uploads/${id}/cancel`)).status).toBe(200)
})

test('an upload that is completed cannot be cancelled', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const { file } = (await (await finish(edge, id, [await addPart(edge, id, '01234567')])).json()) as Upload
  const response = await edge.call('POST', `/v1/uploads/${id}/cancel`)
  expect([response.status, (await errorOf(response)).code]).toEqual([400, 'upload_not_pending'])
  expect(await contentOf(edge, file!.id)).toBe('01234567')
})

test('of a cancellation and a completion at a time one happens', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const parts = [await addPart(edge, id, '01234567')]
  const statuses = await Promise.all([
    finish(edge, id, parts),
    edge.call('POST', `/v1/uploads/${id}/cancel`),
  ]).then((responses) => responses.map(({ status }) => status))
  const [one, other] = statuses.toSorted()
  expect(one).toBe(200)
  expect([400, 409]).toContain(other)
})

test('an upload that is not completed in an hour is given up', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const part = await addPart(edge, id, '01234567')
  edge.later(3600)
  const late = await finish(edge, id, [part])
  expect(late.status).toBe(400)
  expect((await errorOf(late)).message).toContain('expired')
  expect(edge.kept()).toEqual([`uploads/default/info/${id}.json`])
})

test.each([
  ['no bytes', { bytes: undefined }, 'missing_required_parameter', 'bytes'],
  ['0 bytes', { bytes: 0 }, 'invalid_value', 'bytes'],
  ['another purpose', { purpose: 'vision' }, 'invalid_value', 'purpose'],
  ['an unknown field', { size: 1 }, 'unknown_parameter', 'size'],
])('an upload of %s is refused', async (_name, fields, code, param) => {
  const edge = resourceEdge()
  const response = await edge.call('POST', '/v1/uploads', { json: { ...ask, ...fields } })
  expect(response.status).toBe(400)
  expect(await errorOf(response)).toMatchObject({ code, param })
  expect(edge.kept()).toEqual([])
})

test.each(['', 'x'.repeat(64 * 1024 * 1024 + 1)])(
  'a part of a wrong size is refused and not kept',
  async (text) => {
    const edge = resourceEdge()
    const { id } = await begin(edge, { bytes: 100_000_000 })
    const form = new FormData()
    form.append('data', new File([text], 'part'))
    const response = await edge.call('POST', `/v1/uploads/${id}/parts`, await formBody(form))
    expect([400, 413]).toContain(response.status)
    expect(['part_empty', 'file_too_large']).toContain((await errorOf(response)).code)
    expect(edge.kept()).toHaveLength(1)
  },
)

test("another tenant's upload is not there", async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  for (const [path, sent] of [
    ['cancel', {}],
    ['complete', { json: { part_ids: ['part_1'] } }],
    ['parts', await formBody(new FormData())],
  ] as const) {
    const response = await edge.call('POST', `/v1/uploads/${id}/${path}`, { ...sent, tenant: 'other' })
    expect([response.status, (await errorOf(response)).code]).toEqual([404, 'upload_not_found'])
  }
})

test('a repeat with the same idempotency key begins no second upload', async () => {
  const edge = resourceEdge()
  const send = async () =>
    (await edge.call('POST', '/v1/uploads', { json: ask, headers: { 'idempotency-key': 'k' } })).json()
  expect(await send()).toEqual(await send())
  expect(edge.kept()).toHaveLength(1)
})

test('an upload takes no more than its announced bytes, whatever the parts and however many at once', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const send = async (text: string) => {
    const form = new FormData()
    form.append('data', new File([text], 'part'))
    const response = await edge.call('POST', `/v1/uploads/${id}/parts`, await formBody(form))
    return response.status === 200 ? 'taken' : (await errorOf(response)).code
  }
  const bytesKept = () =>
    edge
      .kept()
      .filter((key) => key.includes('/content/'))
      .reduce((sum, key) => sum + edge.objects.get(key)!.length, 0)
  expect(await send('012345678')).toBe('upload_bytes_exceeded')
  expect(await send('01234')).toBe('taken')
  expect(await send('5678')).toBe('upload_bytes_exceeded')
  expect(await Promise.all(['a', 'bb', 'ccc', 'dddd'].map(send))).toContain('upload_bytes_exceeded')
  expect(bytesKept()).toBeLessThanOrEqual(8)
  // It can be completed with what was taken, and with nothing else.
  expect(await Promise.all(Array.from({ length: 20 }, () => send('x')))).toContain('upload_bytes_exceeded')
  expect(bytesKept()).toBeLessThanOrEqual(8)
})

test('a part that is repeated with its key is stored once', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const send = async () => {
    const form = new FormData()
    form.append('data', new File(['01234567'], 'part'))
    const { headers, ...body } = await formBody(form)
    const keyed = { ...body, headers: { ...headers, 'idempotency-key': 'one' } }
    return (await (await edge.call('POST', `/v1/uploads/${id}/parts`, keyed)).json()) as UploadPart
  }
  const [first, second] = [await send(), await send()]
  expect(second.id).toBe(first.id)
  expect((await finish(edge, id, [first.id])).status).toBe(200)
})

test('a part that came while its upload was cancelled leaves nothing behind', async () => {
  const edge = resourceEdge()
  const { id } = await begin(edge)
  const { put } = edge.deps.store
  edge.deps.store.put = async (key, ...args) => {
    const stored = await put(key, ...args)
    if (key.includes('/content/')) await edge.call('POST', `/v1/uploads/${id}/cancel`)
    return stored
  }
  const form = new FormData()
  form.append('data', new File(['x'], 'part'))
  const late = await edge.call('POST', `/v1/uploads/${id}/parts`, await formBody(form))
  expect((await errorOf(late)).code).toBe('upload_not_pending')
  expect(edge.kept()).toEqual([`uploads/default/info/${id}.json`])
})
