import { encodeBase64 } from 'hono/utils/encode'
import OpenAI, { BadRequestError } from 'openai'
import { describe, expect, test } from 'vitest'
import { completed, errorOf, failed, mailboxWith, pngHeader } from '../../app.fixture.ts'
import { type FinishedCaption, maxBodyBytes } from '../../contract/caption.ts'
import { decodeJob } from '../../contract/job.ts'
import type { EdgeDeps } from '../../deps.ts'
import { resourceEdge } from '../resources.fixture.ts'

const png = pngHeader()
const url = `data:image/png;base64,${encodeBase64(png.buffer)}`
const chat = { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }] }

type Overrides = Partial<EdgeDeps>

function ask(path: string, json: unknown, overrides: Overrides = {}) {
  const edge = resourceEdge(overrides)
  return { edge, response: edge.call('POST', path, { json }) }
}
const askChat = (parameters: object, overrides?: Overrides) =>
  ask('/v1/chat/completions', { ...chat, ...parameters }, overrides)
const askCaption = (parameters: object, overrides?: Overrides) =>
  ask('/v1/captions', { image_url: url, ...parameters }, overrides)

describe.each([
  ['chats', askChat],
  ['captions', askCaption],
])('%s', (_name, asked) => {
  test.each([
    [
      { max_tokens: 5, stop: ['.', 'é'] },
      { maxTokens: 5, stop: ['.', 'é'] },
    ],
    [{ stop: '\n' }, { maxTokens: undefined, stop: ['\n'] }],
    [
      { max_tokens: null, stop: null },
      { maxTokens: undefined, stop: undefined },
    ],
  ])('%j travels with the job', async (parameters, expected) => {
    const { edge, response } = asked(parameters)
    expect((await response).status).toBe(200)
    expect(decodeJob(edge.sent[0]!.record)).toMatchObject(expected)
  })

  test.each([
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
  ])('%j is refused', async (parameters, param) => {
    const { edge, response } = asked(parameters)
    expect([(await response).status, (await errorOf(await response)).param]).toEqual([400, param])
    expect(edge.sent).toEqual([])
  })

  test('what is ignored is told, in a header and in the result', async () => {
    const response = await asked({ größe: 1, width: 2 }, { reading: { ignored: ['*'] } }).response
    expect(response.headers.get('x-turbine-ignored-parameters')).toBe('gr%C3%B6%C3%9Fe, width')
    expect(await response.json()).toMatchObject({ turbine: { ignored_parameters: ['größe', 'width'] } })
  })

  test('however long, and whatever they are, the names make a header that proxies let through', async () => {
    const names = Array.from({ length: 90 }, (_, index) => `${'\u{10ffff}'.repeat(70)}${index}`)
    const odd = Object.fromEntries([...names, '\ud800', 'a\nb', ''].map((name) => [name, 1]))
    const response = await asked(odd, { reading: { ignored: ['*'] } }).response
    expect(response.status).toBe(200)
    expect(response.headers.get('x-turbine-ignored-parameters')!.length).toBeLessThan(2000)
    const only = await asked({ '\ud800': 1, 'a\nb': 1 }, { reading: { ignored: ['*'] } }).response
    expect(only.headers.get('x-turbine-ignored-parameters')).toBe('%EF%BF%BD, a%0Ab')
  })

  test('what is not ignored is not told', async () => {
    const response = await asked({}).response
    expect(response.headers.has('x-turbine-ignored-parameters')).toBe(false)
    expect(await response.text()).not.toContain('ignored_parameters')
  })
})

test('options of a raw image are in the query', async () => {
  const edge = resourceEdge()
  const init = {
    method: 'POST',
    body: png,
    headers: { authorization: 'Bearer team', 'content-type': 'image/png' },
  }
  const query = (text: string) => edge.app.request(`http://localhost/v1/captions?${text}`, init)
  expect((await query('max_tokens=4&stop=a&stop=b')).status).toBe(200)
  expect(decodeJob(edge.sent[0]!.record)).toMatchObject({ maxTokens: 4, stop: ['a', 'b'] })
  expect((await query('stop=a')).status).toBe(200)
  expect(decodeJob(edge.sent[1]!.record)).toMatchObject({ stop: ['a'] })
  expect(await errorOf(await query('max_tokens=x'))).toMatchObject({ param: 'max_tokens' })
  expect(await errorOf(await query('temperature=1'))).toMatchObject({ code: 'unsupported_parameter' })
})

const ending = (finish_reason: 'stop' | 'length' | undefined) =>
  mailboxWith((id) => ({ ...completed(id), finish_reason }) as FinishedCaption)

test.each([
  ['length', 'length'],
  ['stop', 'stop'],
  // Of a processor of an earlier version.
  [undefined, 'stop'],
] as const)('a caption that ended by %s says so', async (reason, expected) => {
  const overrides = { mailbox: ending(reason) }
  const whole = await askChat({}, overrides).response
  expect(await whole.json()).toMatchObject({ choices: [{ finish_reason: expected }] })
  const streamed = await (await askChat({ stream: true }, overrides).response).text()
  expect(streamed).toContain(`"finish_reason":"${expected}"`)
  const caption = (await (await askCaption({}, overrides).response).json()) as { finish_reason?: string }
  expect(caption.finish_reason).toBe(reason)
})

const invalid = (http_status: number, code: string) =>
  mailboxWith((id) => {
    const { error, ...rest } = failed(id) as Extract<FinishedCaption, { status: 'failed' }>
    return { ...rest, http_status, error: { ...error, code } }
  })

describe('a broken picture is a bad request of a chat', () => {
  test.each([
    ['of another format', 'data:;base64,aGVsbG8=', {}, 'image_invalid'],
    ['that is empty', 'data:image/png;base64,', {}, 'image_invalid'],
    [
      'with too many pixels',
      `data:;base64,${encodeBase64(pngHeader(20_000, 20_000).buffer)}`,
      {},
      'image_too_large',
    ],
    ['that is not base64', 'data:image/png;base64,*', {}, 'image_url_invalid'],
    ['that the decoder refuses', url, { mailbox: invalid(415, 'image_invalid') }, 'image_invalid'],
    ['that is too complex', url, { mailbox: invalid(413, 'image_too_complex') }, 'image_too_complex'],
  ])('%s', async (_name, image, overrides, code) => {
    const edge = resourceEdge(overrides)
    const client = new OpenAI({
      apiKey: 'team',
      baseURL: 'http://localhost/v1',
      maxRetries: 0,
      fetch: async (address, init) => edge.app.request(String(address), init),
    })
    const create = client.chat.completions.create({
      model: 'starter',
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: image } }] }],
    })
    await expect(create).rejects.toThrow(BadRequestError)
    await expect(create).rejects.toMatchObject({ code, type: 'invalid_request_error' })
  })

  test('of /v1/captions it is what HTTP has for it', async () => {
    const { response } = ask('/v1/captions', { image_url: 'data:;base64,aGVsbG8=' })
    expect((await response).status).toBe(415)
  })
})

describe('aliases of models', () => {
  const reading = { aliases: { 'gpt-4o-mini': 'starter' } }
  const others = { aliases: { '*': 'starter' } }

  test.each([
    ['gpt-4o-mini', reading, 'gpt-4o-mini'],
    ['starter', reading, 'starter'],
    [undefined, reading, 'starter'],
    ['anything', others, 'anything'],
    ['starter', others, 'starter'],
  ])('a chat for %s is answered in that name', async (model, reading, named) => {
    const { edge, response } = askChat({ model }, { reading })
    expect(await (await response).json()).toMatchObject({ model: named, turbine: { model: 'starter' } })
    expect(decodeJob(edge.sent[0]!.record).model).toBe('starter')
    const streamed = await askChat({ model, stream: true }, { reading }).response
    expect(await streamed.text()).toContain(`"model":"${named}"`)
    expect((await askCaption({ model }, { reading }).response).status).toBe(200)
  })

  test.each([
    ['other', reading, 'Served: starter, gpt-4o-mini.'],
    ['gpt-4o', { aliases: { 'gpt-4o': 'gone' } }, 'It stands for "gone", which is not served.'],
  ])('%s is not found', async (model, reading, message) => {
    const { response } = askChat({ model }, { reading })
    expect((await response).status).toBe(404)
    const error = await errorOf(await response)
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model' })
    expect(error.message).toContain(message)
  })
})

describe('pictures of 20 MiB, however they are wrapped', () => {
  const large = new Uint8Array(maxBodyBytes)
  large.set(png)
  const base64 = Buffer.from(large.buffer).toString('base64')
  const wrapped = base64.replace(/.{76}/g, '$&\r\n')

  test.each([
    [
      'a chat',
      '/v1/chat/completions',
      {
        messages: [
          { role: 'user', content: [{ type: 'input_image', image_url: `data:image/png;base64,${base64}` }] },
        ],
      },
    ],
    [
      'a chat, in lines',
      '/v1/chat/completions',
      {
        messages: [
          {
            role: 'user',
            content: [{ type: 'image_url', image_url: { url: `data:image/png;base64,${wrapped}` } }],
          },
        ],
      },
    ],
    ['a caption', '/v1/captions', { image_url: `data:image/png;base64,${base64}` }],
    ['a caption, without a prefix', '/v1/captions', { image_url: base64 }],
  ])('%s', async (_name, path, json) => {
    const edge = resourceEdge()
    expect((await edge.call('POST', path, { json })).status).toBe(200)
    expect(decodeJob(edge.sent[0]!.record).image).toMatchObject({ bytes: maxBodyBytes })
  })

  test('one byte more is refused by its name', async () => {
    const more = Buffer.concat([Buffer.from(large.buffer), Buffer.from([0])]).toString('base64')
    const { response } = ask('/v1/captions', { image_url: `data:image/png;base64,${more}` })
    expect([(await response).status, (await errorOf(await response)).code]).toEqual([
      400,
      'image_url_too_large',
    ])
  })
})
