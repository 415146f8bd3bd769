import { setTimeout } from 'node:timers/promises'
import OpenAI, { BadRequestError, toFile } from 'openai'
import { beforeAll, expect, test } from 'vitest'
import { drawPictures } from './pictures.ts'
import { completedOf, finished, postAsync, postImage, type Service, startService } from './service.ts'
import { temporaryFolder } from './turbine.ts'

let service: Service
let client: OpenAI
let jpeg: Uint8Array<ArrayBuffer>
let url: string
/** The whole caption. */
let whole: string

const chat = (more: object = {}) => ({
  model: 'gpt-4o-mini',
  messages: [{ role: 'user' as const, content: [{ type: 'image_url' as const, image_url: { url } }] }],
  ...more,
})

beforeAll(async () => {
  service = await startService({
    dataDir: await temporaryFolder(),
    env: { TURBINE_MODEL_ALIASES: 'gpt-4o-mini=turbine-starter' },
  })
  client = new OpenAI({ apiKey: 'any', baseURL: `${service.url}/v1`, maxRetries: 0 })
  jpeg = (await drawPictures(1))[0]!.jpeg
  url = `data:image/jpeg;base64,${Buffer.from(jpeg).toString('base64')}`
  whole = (await completedOf(await postImage(service, jpeg))).caption
})

const firstWords = (count: number) => whole.split(' ').slice(0, count).join(' ')
const lastWord = () => whole.split(' ').at(-1)!

test('a chat ends at its maximum of tokens and at its texts, and says why', async () => {
  const complete = await client.chat.completions.create(chat())
  expect(complete).toMatchObject({ model: 'gpt-4o-mini', choices: [{ finish_reason: 'stop' }] })
  const cut = await client.chat.completions.create(chat({ max_tokens: 3 }))
  expect(cut.choices[0]).toMatchObject({ message: { content: firstWords(3) }, finish_reason: 'length' })
  expect(cut.usage!.completion_tokens).toBe(3)
  const stopped = await client.chat.completions.create(chat({ stop: [` ${lastWord()}`] }))
  expect(stopped.choices[0]!.finish_reason).toBe('stop')
  expect(`${stopped.choices[0]!.message.content} ${lastWord()}`).toBe(whole)
  const streamed = await client.chat.completions
    .stream(chat({ max_completion_tokens: 2 }))
    .finalChatCompletion()
  expect(streamed.choices[0]).toMatchObject({ message: { content: firstWords(2) }, finish_reason: 'length' })
})

test('so do captions, also those that are fetched later', async () => {
  const caption = await completedOf(await postImage(service, jpeg, { query: { max_tokens: 2 } }))
  expect(caption).toMatchObject({ caption: firstWords(2), finish_reason: 'length' })
  const id = await postAsync(service, jpeg, { max_tokens: 4 })
  expect(await completedOf(await finished(service, id))).toMatchObject({
    caption: firstWords(4),
    finish_reason: 'length',
  })
})

test("what cannot be done is the SDK's own error, and what is ignored is told", async () => {
  await expect(client.chat.completions.create(chat({ n: 2 }))).rejects.toThrow(BadRequestError)
  const { data, response } = await client.chat.completions.create(chat({ temperature: 0.7 })).withResponse()
  expect(response.headers.get('x-turbine-ignored-parameters')).toBe('temperature')
  expect(data).toMatchObject({ turbine: { ignored_parameters: ['temperature'] } })
})

test('a file made for OpenAI is captioned, each line to its own end', async () => {
  const line = (custom_id: string, more: object) =>
    JSON.stringify({ custom_id, method: 'POST', url: '/v1/chat/completions', body: chat(more) })
  const lines = [
    line('whole', {}),
    ...[1, 2, 3].map((max) => line(`max ${max}`, { max_tokens: max })),
    line('n', { n: 2 }),
  ]
  const file = await toFile(new TextEncoder().encode(lines.join('\n')), 'images.jsonl')
  const { id: input_file_id } = await client.files.create({ file, purpose: 'batch' })
  let batch = await client.batches.create({
    input_file_id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  })
  while (batch.status !== 'completed') {
    expect(batch.status).not.toBe('failed')
    await setTimeout(200)
    batch = await client.batches.retrieve(batch.id)
  }
  const results = async (id: string) =>
    (await (await client.files.content(id)).text())
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text))
  const output = await results(batch.output_file_id!)
  const choices = output.map(({ response }) => response.body.choices[0])
  expect(choices.map(({ message, finish_reason }) => [message.content, finish_reason])).toEqual([
    [whole, 'stop'],
    ...[1, 2, 3].map((max) => [firstWords(max), 'length']),
  ])
  expect(output.map(({ response }) => response.body.model)).toEqual(Array(4).fill('gpt-4o-mini'))
  expect(await results(batch.error_file_id!)).toMatchObject([
    { custom_id: 'n', error: { code: 'unsupported_parameter', param: 'body.n' } },
  ])
})
