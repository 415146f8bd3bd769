import OpenAI from 'openai'
import { beforeAll, expect, test } from 'vitest'
import { referenceOf } from '../../processor/models/reference.fixture.ts'
import { getCaption, type Service, startService } from './service.ts'
import { temporaryFolder } from './turbine.ts'

const { folder, picture, views } = referenceOf('smolvlm')
const view = Object.values(views).find(({ options }) => Object.keys(options).length === 0)!
const url = `data:image/png;base64,${Buffer.from(picture(view)).toString('base64')}`

let service: Service
let client: OpenAI

/** What the model says is random. */
const ask = (more: object = {}) => ({
  model: 'smolvlm',
  messages: [
    {
      role: 'user' as const,
      content: [
        { type: 'text' as const, text: 'Describe this image.' },
        { type: 'image_url' as const, image_url: { url } },
      ],
    },
  ],
  max_tokens: 60,
  temperature: 1,
  seed: 7,
  turbine: { deadline_ms: 20_000 },
  ...more,
})

beforeAll(async () => {
  service = await startService({
    dataDir: await temporaryFolder(),
    args: ['--model', folder],
    env: { TURBINE_SLO_MS: '20000', TURBINE_IGNORE_PARAMETERS: '' },
  })
  client = new OpenAI({ apiKey: 'any', baseURL: `${service.url}/v1`, maxRetries: 0 })
})

const streamOf = (more: object = {}) => client.chat.completions.create({ ...ask(more), stream: true })

async function chunksOf(more: object = {}) {
  const chunks: OpenAI.ChatCompletionChunk[] = []
  for await (const chunk of await streamOf(more)) chunks.push(chunk)
  return chunks
}

/** Chunks of one choice. */
const choiceOf = (chunks: OpenAI.ChatCompletionChunk[], index = 0) =>
  chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
const textOf = (chunks: OpenAI.ChatCompletionChunk[], index = 0) =>
  choiceOf(chunks, index)
    .map(({ delta }) => delta.content ?? '')
    .join('')

test('a caption comes as it grows: a role, texts, an end and the usage', async () => {
  const chunks = await chunksOf({ stream_options: { include_usage: true } })
  const whole = await client.chat.completions.create(ask())
  const [first, ...rest] = choiceOf(chunks)
  expect(first).toMatchObject({ delta: { role: 'assistant', content: '' }, finish_reason: null })
  const last = rest.pop()!
  expect(last).toMatchObject({ delta: {}, finish_reason: whole.choices[0]!.finish_reason })
  expect(rest.length).toBeGreaterThan(5)
  for (const { delta, finish_reason } of rest) {
    expect(delta.content).not.toBe('')
    expect(finish_reason).toBeNull()
  }
  expect(textOf(chunks)).toBe(whole.choices[0]!.message.content)
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  expect(new Set(chunks.map(({ id, model, created }) => `${id} ${model} ${created}`)).size).toBe(1)
})

test('what was streamed can be fetched, complete', async () => {
  const chunks = await chunksOf()
  const stored = await getCaption(service, chunks[0]!.id)
  expect(await stored.json()).toMatchObject({ status: 'completed', caption: textOf(chunks) })
})

test('several captions come beside each other, each in its order', async () => {
  const chunks = await chunksOf({ n: 3 })
  const whole = await client.chat.completions.create(ask({ n: 3 }))
  for (const { index, message, finish_reason } of whole.choices) {
    expect(textOf(chunks, index)).toBe(message.content)
    expect(choiceOf(chunks, index).at(-1)).toMatchObject({ finish_reason })
    expect(choiceOf(chunks, index)[0]!.delta.role).toBe('assistant')
  }
})

test('a text that ends a caption is never shown, nor a part of it', async () => {
  const { message } = (await client.chat.completions.create(ask())).choices[0]!
  const stop = message.content!.slice(40, 46)
  const chunks = await chunksOf({ stop })
  expect(textOf(chunks)).toBe(message.content!.slice(0, message.content!.indexOf(stop)))
  expect(choiceOf(chunks).at(-1)).toMatchObject({ finish_reason: 'stop' })
})

test("the client's own accumulation agrees", async () => {
  const streamed = await client.chat.completions.stream(ask()).finalChatCompletion()
  const whole = await client.chat.completions.create(ask())
  expect(streamed.choices[0]!.message.content).toBe(whole.choices[0]!.message.content)
})

test('a caller who leaves frees his places, unless he can repeat the request', async () => {
  /** Leaves at the first text. */
  const leave = async (headers: Record<string, string>) => {
    const long = { ...ask({ n: 8, seed: 14, max_tokens: 1500 }), stream: true as const }
    for await (const { id } of await client.chat.completions.create(long, { headers })) return id
    throw new Error('Nothing came.')
  }
  const given = await leave({})
  const kept = await leave({ 'idempotency-key': 'long' })
  // By then the one before would be there, too.
  await expect.poll(async () => (await getCaption(service, kept)).status, { timeout: 30_000 }).toBe(200)
  expect((await getCaption(service, given)).status).toBe(404)
})

test('what is wrong with a request has its own status', async () => {
  const wrong = streamOf({ messages: [{ role: 'user', content: 'no image' }] })
  await expect(wrong).rejects.toMatchObject({ status: 400, code: 'image_missing' })
})
