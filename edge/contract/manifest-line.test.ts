import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type LineOptions, maxCustomIdLength, parseBatchLine, parseLocalLine } from './manifest-line.ts'
import { blipCapabilities } from './model.ts'

const captions: LineOptions = { endpoint: '/v1/captions', model: 'blip' }
const chat: LineOptions = { ...captions, endpoint: '/v1/chat/completions' }
const url = 'https://example.com/a.jpg'

const asked = (text: string, options = captions) => {
  const read = parseBatchLine({ number: 7, text }, options)
  if (!read || !('ask' in read)) throw new Error(JSON.stringify(read))
  return read.ask
}
const fault = (line: unknown, options = captions) => {
  const read = parseBatchLine(
    { number: 7, text: typeof line === 'string' ? line : JSON.stringify(line) },
    options,
  )
  return read && 'fault' in read ? read.fault : undefined
}

/** A line in OpenAI's form. */
const openAi = (body: unknown, change: object = {}) => ({
  custom_id: 'a',
  method: 'POST',
  url: '/v1/chat/completions',
  body,
  ...change,
})
const messages = (...content: object[]) => [{ role: 'user', content }]
const image = { type: 'image_url', image_url: { url } }

describe('what can be used', () => {
  test.each([url, `  ${url}\r`, `\uFEFF${url}`, 's3://bucket/a.jpg', 'data:image/png;base64,AAAA'])(
    'a bare address: %s',
    (text) => {
      expect(asked(text)).toEqual({ customId: 'line-7', imageUrls: [text.trim()] })
    },
  )

  test('the short form', () => {
    const line = { custom_id: 'x', image_url: url, prompt: 'a', model: 'blip', turbine: { max_prune: 0.5 } }
    expect(asked(JSON.stringify(line))).toEqual({
      customId: 'x',
      imageUrls: [url],
      request: { beginning: 'a' },
      model: 'blip',
      maxPrune: 0.5,
    })
    expect(asked(JSON.stringify({ image_url: url }), chat).customId).toBe('line-7')
  })

  test("OpenAI's form, of a chat and of a caption", () => {
    const assistant = { role: 'assistant', content: 'a photo of' }
    const body = { model: 'blip', max_tokens: 20, messages: [...messages(image), assistant] }
    expect(asked(JSON.stringify(openAi(body)), chat)).toMatchObject({
      customId: 'a',
      imageUrls: [url],
      request: { beginning: 'a photo of' },
    })
    const caption = openAi({ image_url: url }, { url: '/v1/captions' })
    expect(asked(JSON.stringify(caption))).toMatchObject({ customId: 'a', imageUrls: [url] })
    const nulls = openAi(
      { image_url: url, model: null, prompt: null, turbine: null },
      { url: '/v1/captions' },
    )
    expect(asked(JSON.stringify(nulls))).toEqual({ customId: 'a', imageUrls: [url] })
  })

  test('how large pictures are to be seen, in every form', () => {
    const turbine = { max_pixels: 90_000 }
    const lines = [
      [{ image: url, turbine }, captions],
      [openAi({ image_url: url, turbine }, { url: '/v1/captions' }), captions],
      [openAi({ messages: messages(image), turbine }), chat],
    ] as const
    for (const [line, options] of lines) {
      const reading = { can: { ...blipCapabilities, max_pixels: 1_000_000 } }
      expect(asked(JSON.stringify(line), { ...options, reading })).toMatchObject({
        request: { maxPixels: 90_000 },
      })
    }
  })

  test.each(['', '  ', '\r', '\uFEFF'])('an empty line is nothing: %j', (text) => {
    expect(parseBatchLine({ number: 7, text }, captions)).toBeUndefined()
  })
})

describe('what cannot be used', () => {
  test.each<[string, unknown, Partial<LineOptions>, string, string | null]>([
    ['no JSON', '{"custom_id": "a"', {}, 'invalid_json_line', null],
    ['a text', '"a"', {}, 'invalid_json_line', null],
    ['a list', '[]', {}, 'invalid_json_line', null],
    ['null', 'null', {}, 'invalid_json_line', null],
    ['a path', 'pictures/a.jpg', {}, 'invalid_json_line', null],
    ['no image', { custom_id: 'a' }, {}, 'image_missing', 'image_url'],
    ['no address', { image_url: 'a.jpg' }, {}, 'image_url_invalid', 'image_url'],
    ['a number for an address', { image_url: 1 }, {}, 'invalid_type', 'image_url'],
    ['an image that is no address', { image: 'a.jpg' }, {}, 'image_url_invalid', 'image'],
    ['a number for an image', { image: 1 }, {}, 'invalid_type', 'image'],
    ['an empty image', { image: '' }, {}, 'invalid_value', 'image'],
    ['a path beside a null', { image: null, image_url: 'a.jpg' }, {}, 'image_url_invalid', 'image_url'],
    ['an unknown field', { image_url: url, imagery: 1 }, {}, 'unknown_parameter', 'imagery'],
    ['a custom_id that is no text', { custom_id: [1], image_url: url }, {}, 'invalid_custom_id', 'custom_id'],
    ['an empty custom_id', { custom_id: '', image_url: url }, {}, 'invalid_custom_id', 'custom_id'],
    [
      'a long custom_id',
      { custom_id: 'a'.repeat(maxCustomIdLength + 1), image_url: url },
      {},
      'invalid_custom_id',
      'custom_id',
    ],
    ['another model', { image_url: url, model: 'other' }, {}, 'model_mismatch', 'model'],
    [
      'too much pruning',
      { image_url: url, turbine: { max_prune: 2 } },
      {},
      'invalid_value',
      'turbine.max_prune',
    ],
    ['another url', openAi({ image_url: url }), {}, 'url_mismatch', 'url'],
    ['the url of another endpoint', openAi({}, { url: '/v1/responses' }), chat, 'url_mismatch', 'url'],
    ['a url that is no text', openAi({}, { url: 5 }), chat, 'url_mismatch', 'url'],
    ['another method', openAi({}, { method: 'GET' }), chat, 'method_invalid', 'method'],
    ['no body', openAi(undefined), chat, 'missing_required_parameter', 'body'],
    ['a body that is no object', openAi('x'), chat, 'invalid_type', 'body'],
    ['a field beside the body', openAi({}, { priority: 1 }), chat, 'unknown_parameter', 'priority'],
    ['a chat without an image', openAi({ messages: messages() }), chat, 'image_missing', 'body.messages'],
    [
      'a chat with two images',
      openAi({ messages: messages(image, image) }),
      chat,
      'too_many_images',
      'body.messages',
    ],
    [
      'a stream',
      openAi({ messages: messages(image), stream: true }),
      chat,
      'streaming_unsupported',
      'body.stream',
    ],
  ])('%s', (_, line, change, code, param) => {
    expect(fault(line, { ...captions, ...change })).toMatchObject({ code, param })
  })

  test('what is allowed is said', () => {
    expect(fault(openAi(undefined), chat)?.message).toBe('"body" is missing. It must be an object.')
    expect(fault(openAi({}, { method: 'put' }), chat)?.message).toBe('"method" must be "POST", got "put".')
  })

  test('the custom_id is told where it can be read', () => {
    expect(fault({ custom_id: 'a' })?.customId).toBe('a')
    expect(fault('nonsense')?.customId).toBeNull()
  })

  test('what was never a text', () => {
    const line = { number: 3, text: undefined }
    expect(parseBatchLine({ ...line, unreadable: 'too_long' }, captions)).toMatchObject({
      fault: { customId: null, code: 'line_too_long' },
    })
    expect(parseBatchLine({ ...line, unreadable: 'not_utf8' }, captions)).toMatchObject({
      fault: { customId: null, code: 'invalid_json_line' },
    })
  })
})

describe('hostile lines', () => {
  const megabytes = (part: string) => part.repeat((20 * 2 ** 20) / part.length)

  test.each([
    `{"messages":[${megabytes('0,')}0]}`,
    `{"image_url":${megabytes('[')}`,
    `{${megabytes('"a":{},')}"a":0}`,
  ])('of 20 MB are refused before they are parsed', (line) => {
    expect(fault(line)?.code).toBe('json_too_complex')
  })

  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(url, 'POST', '/v1/captions', '/v1/chat/completions', messages(image), 'Z'.repeat(5000)),
    fc.constant('\u0000'.repeat(5000)),
  )
  const name = fc.oneof(
    fc.constantFrom('custom_id', 'method', 'url', 'body', 'image', 'image_url', 'model', 'prompt', 'turbine'),
    fc.constantFrom('messages', '__proto__', 'Z'.repeat(5000)),
    fc.string(),
  )
  const fields = fc.dictionary(name, fc.oneof(value, fc.dictionary(name, value)))
  const line = fc.oneof(
    fields.map((each) => JSON.stringify(each)),
    fc.tuple(fields, fc.nat(300)).map(([each, length]) => JSON.stringify(each).slice(0, length)),
    fc.string({ unit: 'binary' }),
    value.map((each) => JSON.stringify(each)),
  )

  test('any text is a request, a fault that is short, or nothing', () => {
    fc.assert(
      fc.property(line, fc.constantFrom(captions, chat, undefined), (text, options) => {
        const read = options
          ? parseBatchLine({ number: 7, text }, options)
          : parseLocalLine({ number: 7, text })
        if (!read || 'ask' in read) return
        expect(read.fault.message.length).toBeLessThan(500)
        const { message, param } = read.fault
        expect([...`${message}${param}`].filter((each) => each === 'Z').length).toBeLessThanOrEqual(200)
      }),
      { numRuns: 1000 },
    )
  })
})
