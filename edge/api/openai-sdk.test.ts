import OpenAI, { NotFoundError, toFile } from 'openai'
import { expect, test } from 'vitest'
import { getJson } from '../../infra/store/store.ts'
import { completed, emptyMailbox, pngHeader } from '../app.fixture.ts'
import type { StoredBatch } from '../contract/batch.ts'
import { decodeJob } from '../contract/job.ts'
import { keys } from '../contract/keys.ts'
import type { EdgeDeps } from '../deps.ts'
import { resourceEdge, startSeconds } from './resources.fixture.ts'

/** The official client with its base URL and key changed, and an edge behind it. */
function sdk({ maxRetries = 0, ...overrides }: Partial<EdgeDeps> & { maxRetries?: number } = {}) {
  const edge = resourceEdge(overrides)
  const statuses: number[] = []
  const fetch = async (url: string | URL | Request, init?: object) => {
    const response = await edge.app.request(String(url), init)
    statuses.push(response.status)
    await self.onAnswer()
    return response
  }
  const client = new OpenAI({ apiKey: 'team', baseURL: 'http://localhost/v1', maxRetries, fetch })
  const self = { edge, client, statuses, onAnswer: async () => {} }
  return self
}

const line = (custom_id: string) =>
  JSON.stringify({
    custom_id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'starter', messages: [] },
  })

const manifest = `${line('a')}\n${line('b')}\n`
const manifestFile = () => toFile(new TextEncoder().encode(manifest), 'images.jsonl')

test('files.create, retrieve, content, list and delete', async () => {
  const { client } = sdk()
  const file = await client.files.create({
    file: await manifestFile(),
    purpose: 'batch',
    expires_after: { anchor: 'created_at', seconds: 3600 },
  })
  expect(file).toMatchObject({
    object: 'file',
    bytes: manifest.length,
    filename: 'images.jsonl',
    purpose: 'batch',
    expires_at: startSeconds + 3600,
  })
  expect(await client.files.retrieve(file.id)).toEqual(file)
  expect(await (await client.files.content(file.id)).text()).toBe(manifest)
  expect((await client.files.list()).data).toEqual([file])
  expect(await client.files.waitForProcessing(file.id)).toEqual(file)
  expect(await client.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true })
  await expect(client.files.retrieve(file.id)).rejects.toThrow(NotFoundError)
})

test('a list is followed over its pages', async () => {
  const { client, edge, statuses } = sdk()
  const ids: string[] = []
  for (let count = 0; count < 5; count++) {
    ids.push((await client.files.create({ file: await manifestFile(), purpose: 'batch' })).id)
    edge.later(1)
  }
  const before = statuses.length
  const all = async (query: OpenAI.FileListParams) => {
    const found: string[] = []
    for await (const file of client.files.list(query)) found.push(file.id)
    return found
  }
  expect(await all({ limit: 2 })).toEqual(ids.toReversed())
  expect(statuses.length - before).toBe(3)
  expect(await all({ limit: 2, order: 'asc', purpose: 'batch' })).toEqual(ids)
})

test('uploads.create, parts.create, complete and cancel', async () => {
  const { client } = sdk()
  const ask = {
    bytes: manifest.length,
    filename: 'm.jsonl',
    mime_type: 'application/jsonl',
    purpose: 'batch',
  } as const
  const upload = await client.uploads.create(ask)
  expect(upload).toMatchObject({ object: 'upload', status: 'pending', expires_at: startSeconds + 3600 })
  const half = Math.floor(manifest.length / 2)
  const halves = [manifest.slice(0, half), manifest.slice(half)]
  const parts = await Promise.all(
    halves.map(async (text) =>
      client.uploads.parts.create(upload.id, { data: await toFile(new TextEncoder().encode(text)) }),
    ),
  )
  expect(parts[0]).toMatchObject({ object: 'upload.part', upload_id: upload.id })
  const completed = await client.uploads.complete(upload.id, { part_ids: parts.map(({ id }) => id) })
  expect(completed.status).toBe('completed')
  expect(await (await client.files.content(completed.file!.id)).text()).toBe(manifest)

  const second = await client.uploads.create(ask)
  expect((await client.uploads.cancel(second.id)).status).toBe('cancelled')
})

test('batches.create, retrieve, list and cancel, and the output of one that is done', async () => {
  const { client, edge } = sdk()
  const input = await client.files.create({ file: await manifestFile(), purpose: 'batch' })
  const batch = await client.batches.create({
    input_file_id: input.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    metadata: { dataset: 'harbour' },
    output_expires_after: { anchor: 'created_at', seconds: 3600 },
  })
  expect(batch).toMatchObject({
    object: 'batch',
    status: 'validating',
    input_file_id: input.id,
    created_at: startSeconds,
    expires_at: startSeconds + 86_400,
    metadata: { dataset: 'harbour' },
    request_counts: { total: 0, completed: 0, failed: 0 },
  })
  expect(await client.batches.retrieve(batch.id)).toEqual(batch)

  const file = {
    id: 'file-out',
    object: 'file',
    bytes: 4,
    created_at: startSeconds,
    filename: 'out.jsonl',
    purpose: 'batch_output',
    status: 'processed',
  } as const
  await edge.deps.store.put('out', 'done')
  await edge.keepOutput('team', { file, slices: [{ key: 'out', start: 0, end: 4 }] })
  const key = keys.batch('team', batch.id)
  const stored = (await getJson<StoredBatch>(edge.deps.store, key))!
  const done = { ...stored.batch, status: 'completed', output_file_id: file.id }
  await edge.deps.store.put(key, JSON.stringify({ ...stored, batch: done }))
  const { output_file_id } = await client.batches.retrieve(batch.id)
  expect(await (await client.files.content(output_file_id!)).text()).toBe('done')

  edge.later(1)
  const second = await client.batches.create({
    input_file_id: input.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  })
  const ids: string[] = []
  for await (const each of client.batches.list({ limit: 1 })) ids.push(each.id)
  expect(ids).toEqual([second.id, batch.id])
  expect((await client.batches.cancel(second.id)).status).toBe('cancelling')
  await expect(client.batches.cancel(batch.id)).rejects.toMatchObject({
    status: 400,
    code: 'batch_not_cancellable',
  })
})

const messages: OpenAI.ChatCompletionMessageParam[] = [
  {
    role: 'user',
    content: [
      { type: 'text', text: 'What is in this image?' },
      { type: 'image_url', image_url: { url: 'https://example.com/a.png', detail: 'low' } },
    ],
  },
]

test('chat.completions.create with an https and a data image', async () => {
  const { client } = sdk()
  const completion = await client.chat.completions.create({ model: 'starter', messages, max_tokens: 50 })
  expect(completion.choices[0]).toMatchObject({ message: { content: 'a red square' }, finish_reason: 'stop' })
  expect(completion.usage).toEqual({ prompt_tokens: 197, completion_tokens: 3, total_tokens: 200 })
  const url = `data:image/png;base64,${Buffer.from(pngHeader()).toString('base64')}`
  const inline = await client.chat.completions.create({
    model: 'starter',
    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
  })
  expect(inline.choices[0]!.message.content).toBe('a red square')
})

test('chat.completions.create as a stream, with usage', async () => {
  const { client } = sdk()
  const stream = await client.chat.completions.create({
    model: 'starter',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  })
  let content = ''
  let usage: OpenAI.CompletionUsage | null | undefined
  const reasons: (string | null)[] = []
  for await (const chunk of stream) {
    content += chunk.choices[0]?.delta.content ?? ''
    reasons.push(...chunk.choices.map((choice) => choice.finish_reason))
    usage = chunk.usage
  }
  expect(content).toBe('a red square')
  expect(reasons).toEqual([null, null, 'stop'])
  expect(usage).toEqual({ prompt_tokens: 197, completion_tokens: 3, total_tokens: 200 })
})

test("the client's own accumulation of a stream agrees with an answer as a whole", async () => {
  const { client } = sdk()
  const streamed = await client.chat.completions.stream({ model: 'starter', messages }).finalChatCompletion()
  const whole = await client.chat.completions.create({ model: 'starter', messages })
  expect(streamed.choices[0]!.message.content).toBe(whole.choices[0]!.message.content)
  expect(streamed.choices[0]!.finish_reason).toBe('stop')
})

test('models.list and models.retrieve', async () => {
  const { client } = sdk()
  expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['starter'])
  expect((await client.models.retrieve('starter')).owned_by).toBe('turbine')
})

test('errors come as the errors of the client', async () => {
  const { client } = sdk()
  const refused = client.chat.completions.create({ model: 'other', messages })
  await expect(refused).rejects.toThrow(NotFoundError)
  await expect(refused).rejects.toMatchObject({
    code: 'model_not_found',
    param: 'model',
    type: 'not_found_error',
  })
  const wrong = client.files.create({ file: await manifestFile(), purpose: 'vision' })
  await expect(wrong).rejects.toMatchObject({ status: 400, code: 'invalid_value', param: 'purpose' })
  await expect(client.batches.retrieve('batch_none')).rejects.toMatchObject({ status: 404 })
  await expect(client.uploads.complete('upload_none', { part_ids: ['p'] })).rejects.toMatchObject({
    status: 404,
  })
})

test("a caption that is late is given to the client's own repeat, and not made twice", async () => {
  const late = sdk({ mailbox: emptyMailbox, maxRetries: 1 })
  late.onAnswer = async () => {
    const { id } = decodeJob(late.edge.sent[0]!.record)
    await late.edge.deps.store.put(keys.caption('team', id), JSON.stringify(completed(id)))
  }
  const headers = { 'Idempotency-Key': 'order-42' }
  const completion = await late.client.chat.completions.create({ model: 'starter', messages }, { headers })
  expect(completion.choices[0]!.message.content).toBe('a red square')
  expect(late.statuses).toEqual([503, 200])
  expect(late.edge.sent).toHaveLength(1)
})
