import { encodeBase64 } from 'hono/utils/encode'
import { describe, expect, test } from 'vitest'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { BucketUnavailableError, StoreUnavailableError } from '../../../infra/store/store.ts'
import { completed, emptyMailbox, errorOf, failed, mailboxWith, pngHeader } from '../../app.fixture.ts'
import type { FinishedCaption } from '../../contract/caption.ts'
import { decodeJob, maxInlineImageBytes } from '../../contract/job.ts'
import { keys } from '../../contract/keys.ts'
import type { CaptionPart } from '../../contract/reply.ts'
import type { EdgeDeps } from '../../deps.ts'
import { createMailbox } from '../../submit/mailbox.ts'
import { resourceEdge, startSeconds } from '../resources.fixture.ts'

const png = pngHeader()
const dataUrl = `data:image/png;base64,${encodeBase64(png.buffer)}`

const image = (url = dataUrl) => ({ type: 'image_url', image_url: { url } })
const asking = (...content: object[]) => ({ model: 'starter', messages: [{ role: 'user', content }] })

const usage = { prompt_tokens: 197, completion_tokens: 3, total_tokens: 200 }

function chat(
  json: unknown,
  { overrides = {}, headers = {} }: { overrides?: Partial<EdgeDeps>; headers?: Record<string, string> } = {},
) {
  const edge = resourceEdge(overrides, [
    { id: 'default', grants: [{ uri: 's3://photos/', access: 'read' }], limits: {} },
  ])
  return { edge, response: edge.call('POST', '/v1/chat/completions', { json, headers }) }
}

test('the caption is the answer of the assistant', async () => {
  const { edge, response } = chat({
    ...asking({ type: 'text', text: 'What is this?' }, image()),
    temperature: 0,
    turbine: { max_prune: 0.5, deadline_ms: 900 },
  })
  expect((await response).status).toBe(200)
  const job = decodeJob(edge.sent[0]!.record)
  expect(await (await response).json()).toEqual({
    id: job.id,
    object: 'chat.completion',
    created: startSeconds,
    model: 'starter',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'a red square', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage,
    turbine: expect.objectContaining({ prune_ratio: 0, model: 'starter' }),
  })
  expect(job).toMatchObject({ image: png, maxPrune: 0.5, deadline: startSeconds * 1000 + 900 })
  expect(job.request).toBeUndefined()
  expect(job.warnings).toEqual(['text_ignored'])
})

test('the beginning of a caption is as long as a prompt may be', async () => {
  const request = asking(image())
  const messages = [...request.messages, { role: 'assistant', content: 'a'.repeat(201) }]
  const { edge, response } = chat({ ...request, messages })
  expect((await response).status).toBe(400)
  expect(await errorOf(await response)).toMatchObject({ code: 'prompt_too_long', param: 'messages' })
  expect(edge.sent).toEqual([])
})

test("a last message of the assistant is the caption's beginning", async () => {
  const request = asking(image())
  const messages = [...request.messages, { role: 'assistant', content: 'a photo of' }]
  const { edge, response } = chat({ ...request, messages })
  await response
  expect(decodeJob(edge.sent[0]!.record).request).toEqual({ beginning: 'a photo of' })
})

/** The data of each event. */
const eventsOf = (text: string) =>
  text
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => {
      expect(event).toMatch(/^data: /)
      const data = event.slice('data: '.length)
      return data === '[DONE]' ? data : JSON.parse(data)
    })

test('a stream brings the role, the caption, the end and, if asked for, the usage', async () => {
  const request = { ...asking(image()), stream: true, stream_options: { include_usage: true } }
  const { edge, response: streamed } = chat(request)
  const response = await streamed
  expect(response.headers.get('content-type')).toMatch('text/event-stream')
  const events = eventsOf(await response.text())
  const { id } = decodeJob(edge.sent[0]!.record)
  const head = { id, object: 'chat.completion.chunk', created: startSeconds, model: 'starter' }
  const choice = { index: 0, logprobs: null, finish_reason: null }
  expect(events).toEqual([
    { ...head, usage: null, choices: [{ ...choice, delta: { role: 'assistant', content: '' } }] },
    { ...head, usage: null, choices: [{ ...choice, delta: { content: 'a red square' } }] },
    {
      ...head,
      usage: null,
      choices: [{ ...choice, delta: {}, finish_reason: 'stop' }],
      turbine: expect.objectContaining({ tokens_in: 197 }),
    },
    { ...head, usage, choices: [] },
    '[DONE]',
  ])
})

test('without include_usage no chunk speaks of it', async () => {
  const text = await (await chat({ ...asking(image()), stream: true }).response).text()
  expect(eventsOf(text)).toHaveLength(4)
  expect(text).not.toContain('"usage"')
})

test.each([false, true])(
  'a caption that failed is answered with its own status (stream: %s)',
  async (stream) => {
    const response = await chat(
      { ...asking(image()), stream },
      { overrides: { mailbox: mailboxWith(failed) } },
    ).response
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'image_invalid' })
  },
)

test.each([
  ['prompt', false, 'messages'],
  ['prompt', true, 'messages'],
  ['image', false, 'messages'],
  ['image_url', true, 'image_url'],
  [null, false, null],
])(
  'a caption that failed by its %s names the field of a chat (stream: %s)',
  async (param, stream, expected) => {
    const broken = (id: string) => {
      const { error, ...rest } = failed(id) as Extract<FinishedCaption, { status: 'failed' }>
      return { ...rest, error: { ...error, param } }
    }
    const overrides = { mailbox: mailboxWith(broken) }
    const response = await chat({ ...asking(image()), stream }, { overrides }).response
    expect((await errorOf(response)).param).toBe(expected)
  },
)

test.each([false, true])(
  'a caption that is late is 503 and says where it will be (stream: %s)',
  async (stream) => {
    const { edge, response } = chat({ ...asking(image()), stream }, { overrides: { mailbox: emptyMailbox } })
    const late = await response
    const address = `/v1/captions/${decodeJob(edge.sent[0]!.record).id}`
    expect(late.status).toBe(503)
    expect(late.headers.get('retry-after')).toBe('1')
    expect(late.headers.get('location')).toBe(address)
    expect(await errorOf(late)).toMatchObject({ code: 'caption_pending', type: 'overloaded_error' })
    expect((await edge.call('GET', address)).status).toBe(202)
  },
)

test('the repeat of a late one is given its caption, and nothing is sent twice', async () => {
  const headers = { 'idempotency-key': 'k' }
  const { edge, response } = chat(asking(image()), { headers, overrides: { mailbox: emptyMailbox } })
  expect((await response).status).toBe(503)
  const { id } = decodeJob(edge.sent[0]!.record)
  await edge.deps.store.put(keys.caption('default', id), JSON.stringify(completed(id)))
  const repeated = await edge.call('POST', '/v1/chat/completions', { json: asking(image()), headers })
  expect(repeated.status).toBe(200)
  expect(await repeated.json()).toMatchObject({ id, choices: [{ message: { content: 'a red square' } }] })
  expect(edge.sent).toHaveLength(1)
})

test.each([
  ['no image', asking({ type: 'text', text: 'hello' }), 400, 'image_missing', 'messages'],
  ['two images', asking(image(), image()), 400, 'too_many_images', 'messages'],
  ['no messages', { model: 'starter' }, 400, 'missing_required_parameter', 'messages'],
  ['another model', { ...asking(image()), model: 'other' }, 404, 'model_not_found', 'model'],
  ['two choices', { ...asking(image()), n: 2 }, 400, 'unsupported_parameter', 'n'],
  ['a data URL of text', asking(image('data:;base64,aGVsbG8=')), 400, 'image_invalid', 'image_url'],
  ['an ftp address', asking(image('ftp://example.com/a')), 400, 'image_url_invalid', 'image_url'],
  ['no JSON', '{', 400, 'invalid_json', null],
])('%s is refused', async (_name, json, status, code, param) => {
  const { edge, response } = chat(json)
  const error = await errorOf(await response)
  expect([(await response).status, error.code, error.param]).toEqual([status, code, param])
  expect(edge.sent).toEqual([])
})

test('a full queue turns chats away before they are read', async () => {
  const response = await chat('{', {
    overrides: { roomIn: () => 2 },
  }).response
  expect([response.status, (await errorOf(response)).code]).toEqual([429, 'queue_full'])
})

test('an image in a granted bucket is read from there', async () => {
  const edge = resourceEdge({}, [
    { id: 'default', grants: [{ uri: 's3://photos/mine/', access: 'read' }], limits: {} },
  ])
  await edge.bucket('photos').store.put('mine/a.png', png)
  const ask = (url: string) => edge.call('POST', '/v1/chat/completions', { json: asking(image(url)) })
  expect((await ask('s3://photos/mine/a.png')).status).toBe(200)
  expect(decodeJob(edge.sent[0]!.record).image).toEqual(png)

  const codeOf = async (url: string) => {
    const response = await ask(url)
    return [response.status, (await errorOf(response)).code]
  }
  expect(await codeOf('s3://photos/theirs/a.png')).toEqual([403, 's3_not_granted'])
  expect(await codeOf('s3://photos/mine/../theirs/a.png')).toEqual([403, 's3_not_granted'])
  expect(await codeOf('s3://photos/../theirs/a.png')).toEqual([400, 's3_uri_invalid'])
  expect(await codeOf('s3://photos/mine/none.png')).toEqual([400, 'image_not_found'])
  // Another object, though some servers would take it for the same.
  expect(await codeOf('s3://photos/mine//a.png')).toEqual([400, 'image_not_found'])
  await edge.bucket('photos').store.put('mine/huge.png', new Uint8Array(21 * 1024 * 1024))
  expect(await codeOf('s3://photos/mine/huge.png')).toEqual([400, 'image_url_too_large'])
  expect(edge.sent).toHaveLength(1)
})

test.each([
  ['missing', 'image_not_found', 'Create it'],
  ['forbidden', 'image_forbidden', 'Allow its S3 user to read'],
] as const)("a granted bucket that is %s is the caller's fault", async (fault, code, remedy) => {
  const tenants = [{ id: 'default', grants: [{ uri: 's3://photos/', access: 'read' as const }], limits: {} }]
  const { store } = memoryStore()
  store.get = () => Promise.reject(new BucketUnavailableError(fault, 'S3 at 10.0.0.1 says no.', {}))
  const edge = resourceEdge({ buckets: () => store }, tenants)
  const url = 's3://photos/a.png'
  for (const [path, json] of [
    ['/v1/chat/completions', asking(image(url))],
    ['/v1/captions', { image_url: url }],
  ] as const) {
    const response = await edge.call('POST', path, { json })
    expect([response.status, response.headers.get('retry-after')]).toEqual([400, null])
    const error = await errorOf(response)
    expect(error).toMatchObject({ code, param: 'image_url', type: 'invalid_request_error' })
    expect(error.message).toContain(`"photos". ${remedy}`)
    expect(error.message).not.toContain('10.0.0.1')
  }
})

test.each([
  ['image_unavailable', { bucket: new StoreUnavailableError('away') }],
  ['store_unavailable', { own: new BucketUnavailableError('missing', 'There is no bucket.', {}) }],
])('%s: a bucket that is away now', async (code, faults: { bucket?: Error; own?: Error }) => {
  const tenants = [{ id: 'default', grants: [{ uri: 's3://photos/', access: 'read' as const }], limits: {} }]
  const edge = resourceEdge({}, tenants)
  await edge.bucket('photos').store.put('a.png', png)
  if (faults.bucket) edge.bucket('photos').store.get = () => Promise.reject(faults.bucket)
  if (faults.own) edge.deps.store.put = () => Promise.reject(faults.own)
  const headers = { 'idempotency-key': 'one' }
  const response = await edge.call('POST', '/v1/captions', {
    json: { image_url: 's3://photos/a.png' },
    headers,
  })
  expect([response.status, (await errorOf(response)).code]).toEqual([503, code])
  expect(response.headers.get('retry-after')).toBe('1')
})

test('a captions request reads buckets too, and without S3 says so', async () => {
  const json = { image_url: 's3://photos/a.png' }
  const grants = [{ uri: 's3://photos/', access: 'read' as const }]
  const tenants = [{ id: 'default', grants, limits: {} }]
  const edge = resourceEdge({}, tenants)
  await edge.bucket('photos').store.put('a.png', png)
  expect((await edge.call('POST', '/v1/captions', { json })).status).toBe(200)
  const without = await resourceEdge({ buckets: undefined }, tenants).call('POST', '/v1/captions', { json })
  expect([without.status, (await errorOf(without)).code]).toEqual([400, 's3_unavailable'])
})

test('an image too large for a record goes by the store', async () => {
  const large = new Uint8Array(maxInlineImageBytes + 1)
  large.set(png)
  const { edge, response } = chat(asking(image('https://example.com/a.png')), {
    overrides: { images: async () => large },
  })
  expect((await response).status).toBe(200)
  const job = decodeJob(edge.sent[0]!.record)
  expect(job.image).toEqual({ key: keys.captionImage('default', job.id), bytes: large.length })
})

describe('while a caption grows', () => {
  const streamed = { ...asking(image()), stream: true }
  const part = (id: string, texts: [from: number, text: string, index?: number][]): CaptionPart => ({
    id,
    object: 'caption.part',
    created: startSeconds,
    texts: texts.map(([from, text, index = 0]) => ({ index, from, text })),
  })

  /** A stream that has begun with "a ", by an edge whose processor the test plays. */
  async function begun(json: object = streamed, overrides: Partial<EdgeDeps> = {}) {
    const mailbox = createMailbox()
    const sent = Promise.withResolvers<string>()
    const edge = resourceEdge({ mailbox, ...overrides })
    const send = edge.deps.stream.send
    edge.deps.stream.send = async (...sending) => {
      await send(...sending)
      sent.resolve(decodeJob(sending[1][0]!).id)
    }
    const called = edge.call('POST', '/v1/chat/completions', { json })
    const id = await sent.promise
    expect(mailbox.show(id, part(id, [[0, 'a ']]))).toBe('taken')
    return { edge, mailbox, id, response: await called }
  }

  test('its texts are sent at once, and what is lost or comes twice makes no difference', async () => {
    const { mailbox, id, response } = await begun()
    expect(response.status).toBe(200)
    for (const texts of [[[0, 'a ']], [[5, ' sq']], [[2, 'red']], [[0, 'a red']]] as [number, string][][])
      mailbox.show(id, part(id, texts))
    const reader = response.body!.getReader()
    const read = async () => eventsOf(new TextDecoder().decode((await reader.read()).value))[0]
    expect(await read()).toMatchObject({ id, choices: [{ delta: { role: 'assistant', content: '' } }] })
    expect(await read()).toMatchObject({ choices: [{ delta: { content: 'a ' } }] })
    expect(await read()).toMatchObject({ choices: [{ delta: { content: 'red' } }] })
    mailbox.deliver(id, completed(id))
    expect(await read()).toMatchObject({ choices: [{ delta: { content: ' square' } }] })
    expect(await read()).toMatchObject({ choices: [{ delta: {}, finish_reason: 'stop' }], turbine: {} })
    expect(await read()).toBe('[DONE]')
    expect((await reader.read()).done).toBe(true)
  })

  test.each([
    ['fails', { caption: failed }, 'image_invalid', 'cut off'],
    ['is late', {}, 'caption_pending', 'GET /v1/captions/'],
    [
      'is another than it began with',
      { caption: (id: string) => ({ ...completed(id), caption: 'the blue circle' }) },
      'caption_changed',
      'GET /v1/captions/',
    ],
    ['is late while the store is away', { store: true }, 'store_unavailable', 'Retry'],
  ])('one that %s ends with an error, and not as if it were done', async (_, how, code, says) => {
    const { edge, mailbox, id, response } = await begun()
    if ('store' in how) edge.deps.store.put = () => Promise.reject(new StoreUnavailableError('away'))
    if ('caption' in how) mailbox.deliver(id, how.caption(id) as FinishedCaption)
    else mailbox.release()
    const events = eventsOf(await response.text())
    expect(events).toHaveLength(3)
    expect(events[2]).toEqual({ error: expect.objectContaining({ code }) })
    expect(events[2].error.message).toContain(says)
  })

  test('one that was cut shorter than it was shown ends where it is', async () => {
    const { mailbox, id, response } = await begun()
    mailbox.show(id, part(id, [[2, 'red square with']]))
    mailbox.deliver(id, completed(id))
    const events = eventsOf(await response.text())
    expect(events.slice(-2)).toMatchObject([{ choices: [{ finish_reason: 'stop' }] }, '[DONE]'])
  })

  test('a caller who goes away is known to have left', async () => {
    const { mailbox, id, response } = await begun()
    await response.body!.cancel()
    await expect.poll(() => mailbox.show(id, part(id, [[2, 'red']]))).toBe('left')
    expect(mailbox.leaving(id)!.aborted).toBe(true)
  })

  test('its places are held until its end', async () => {
    let [inFlight, held] = [0, 0]
    const limiter: EdgeDeps['limiter'] = {
      count: async () => ({ granted: true }),
      enter: async () => {
        inFlight++
        return { granted: true, release: () => void inFlight-- }
      },
    }
    const limited = { id: 'default', grants: [], limits: { inFlight: 1 } }
    const accounts = { ...resourceEdge({}, [limited]).deps.accounts }
    const roomIn = (now: number) => {
      held = now
      return 0
    }
    const { edge, mailbox, id, response } = await begun(streamed, { limiter, accounts, roomIn })
    await edge.call('POST', '/v1/captions', { body: '{' })
    expect([inFlight, held]).toEqual([1, 1])
    mailbox.deliver(id, completed(id))
    await response.text()
    await edge.call('POST', '/v1/captions', { body: '{' })
    expect([inFlight, held]).toEqual([0, 0])
  })
})
