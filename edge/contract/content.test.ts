import { describe, expect, test } from 'vitest'
import { fitAsk } from './ask.ts'
import { readChat } from './chat.ts'
import { imagePartForms } from './content.ts'
import { TurbineError } from './errors.ts'
import { type LineOptions, parseBatchLine, parseLocalLine } from './manifest-line.ts'
import { blipCapabilities } from './model.ts'

const url = 'https://example.com/a.jpg'
const base64 = 'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAAAAAAAAAAA='
const chatLine: LineOptions = { endpoint: '/v1/chat/completions', model: 'blip' }

/** A chat whose only message has this content. */
const chatOf = (content: unknown) => ({ messages: [{ role: 'user', content }] })

const inChat = (body: object) => {
  try {
    const chat = readChat(body)
    fitAsk(chat, { id: 'blip', can: blipCapabilities })
    const { imageUrls, maxPrune } = chat
    return { imageUrl: imageUrls[0], maxPrune }
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { code: error.code, param: error.param, message: error.message }
  }
}

/** The same of a line, whose parameters are below `body`. */
const inLine = (read: typeof parseLocalLine | typeof parseBatchLine) => (body: object) => {
  const text = JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body })
  const line = read({ number: 1, text }, chatLine)!
  if ('ask' in line) return { imageUrl: line.ask.imageUrls[0], maxPrune: line.ask.maxPrune }
  const { code, param, message } = line.fault
  return { code, param: param?.replace(/^body\./, ''), message }
}

/** One reader for all: a chat, a line of a batch, a line of the command line. */
const readers = { inChat, inBatch: inLine(parseBatchLine), inLocalLine: inLine(parseLocalLine) }

describe.each(Object.entries(readers))('%s', (_name, read) => {
  test.each<[string, unknown, string?]>([
    [
      'as OpenAI has it',
      [
        { type: 'text', text: 'What?' },
        { type: 'image_url', image_url: { url } },
      ],
    ],
    ['image_url as a text', [{ type: 'image_url', image_url: url }]],
    [
      'input_image',
      [
        { type: 'input_text', text: 'What?' },
        { type: 'input_image', image_url: url },
      ],
    ],
    ['input_image with an object', [{ type: 'input_image', image_url: { url } }]],
    ['a part without a type', [{ text: 'What?' }, { image_url: { url } }]],
    ['a part without a type, as a text', [{ image_url: url }]],
    ['a null type is no type', [{ type: undefined, image_url: url }]],
    ['texts beside parts', ['What?', { type: 'image_url', image_url: { url } }, 'Tell.']],
    [
      'several texts',
      [
        { type: 'text', text: 'a' },
        { type: 'image_url', image_url: { url } },
        { type: 'text', text: 'b' },
      ],
    ],
    ['a part without a list', { type: 'image_url', image_url: { url } }],
    ['a source with an address', [{ type: 'image', source: { type: 'url', url } }]],
    ['an image of a template', [{ type: 'image', image: url }]],
    ['an image with a url', [{ type: 'image', url }]],
    [
      'other fields',
      [{ type: 'image_url', image_url: { url, format: 'x' }, cache_control: { type: 'ephemeral' } }],
    ],
    [
      'a source in base64',
      [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: base64 } }],
      `data:image/png;base64,${base64}`,
    ],
    ['base64 in a field of its own', [{ type: 'image', base64 }], `data:;base64,${base64}`],
    [
      'a source that is a data URL',
      [{ type: 'image', source: { data: `data:;base64,${base64}` } }],
      `data:;base64,${base64}`,
    ],
    [
      'base64 without a prefix',
      [{ type: 'image_url', image_url: { url: base64 } }],
      `data:;base64,${base64}`,
    ],
    ['an address among spaces', [{ type: 'image_url', image_url: { url: ` ${url}\n` } }]],
  ])('understands %s', (_form, content, expected = url) => {
    expect(read(chatOf(content))).toEqual({ imageUrl: expected, maxPrune: undefined })
  })

  test('understands a system message and texts of others', () => {
    const messages = [
      { role: 'system', content: 'You caption.' },
      { role: 'developer', content: [{ type: 'text', text: 'Shortly.' }] },
      { role: 'user', content: 'Look.' },
      { role: 'assistant', content: [{ type: 'refusal', refusal: 'No.' }] },
      { role: 'assistant', content: null, tool_calls: [] },
      { role: 'user', name: 'me', content: [{ type: 'image_url', image_url: { url } }] },
    ]
    expect(read({ messages })).toEqual({ imageUrl: url, maxPrune: undefined })
  })

  test.each([
    ['auto', undefined],
    ['low', undefined],
    [null, undefined],
    ['high', 0],
    ['original', 0],
  ])('detail %s bounds pruning', (detail, maxPrune) => {
    const part = { type: 'image_url', image_url: { url, detail } }
    expect(read(chatOf([part]))).toEqual({ imageUrl: url, maxPrune })
    expect(read(chatOf([{ type: 'input_image', image_url: url, detail }]))).toEqual({
      imageUrl: url,
      maxPrune,
    })
    expect(read({ ...chatOf([part]), turbine: { max_prune: 0.5 } })).toMatchObject({ maxPrune: 0.5 })
  })

  const at = 'messages.0.content'
  test.each<[string, unknown, string, string, string]>([
    ['a text alone', 'What?', 'image_missing', 'messages', 'No message holds an image.'],
    [
      'an address in a text',
      `See ${url}`,
      'image_missing',
      'messages',
      'An address in the text is not opened.',
    ],
    ['an empty list', [], 'image_missing', 'messages', 'Add a part {"type": "image_url"'],
    ['nothing', null, 'image_missing', 'messages', 'No message holds an image.'],
    ['a number', 5, 'invalid_type', at, 'must be a string or an array'],
    ['a number for a part', [5], 'invalid_type', `${at}.0`, 'got 5'],
    ['an empty part', [{}], 'missing_required_parameter', `${at}.0.type`, '"type": "image_url"'],
    ['a type that cannot be', [{ type: 'video_url' }], 'invalid_value', `${at}.0.type`, 'got "video_url"'],
    [
      'an input_audio',
      [{ type: 'input_audio', input_audio: {} }],
      'invalid_value',
      `${at}.0.type`,
      '"input_audio"',
    ],
    ['a type that is none', [{ type: 5 }], 'invalid_value', `${at}.0.type`, 'must be "text" or "image_url"'],
    ['a text without a text', [{ type: 'text' }], 'missing_required_parameter', `${at}.0.text`, 'is missing'],
    ['a text that is a number', [{ type: 'text', text: 1 }], 'invalid_type', `${at}.0.text`, 'a string'],
    [
      'no image_url',
      [{ type: 'image_url' }],
      'missing_required_parameter',
      `${at}.0.image_url`,
      'is missing',
    ],
    [
      'no url',
      [{ type: 'image_url', image_url: {} }],
      'missing_required_parameter',
      `${at}.0.image_url.url`,
      'https://',
    ],
    [
      'a number for a url',
      [{ type: 'image_url', image_url: { url: 5 } }],
      'invalid_type',
      `${at}.0.image_url.url`,
      'a number',
    ],
    [
      'a list for a url',
      [{ type: 'image_url', image_url: [url] }],
      'invalid_type',
      `${at}.0.image_url`,
      'a list',
    ],
    [
      'an empty url',
      [{ type: 'image_url', image_url: { url: '' } }],
      'invalid_value',
      `${at}.0.image_url.url`,
      'is empty',
    ],
    [
      'an empty text',
      [{ type: 'input_image', image_url: '' }],
      'invalid_value',
      `${at}.0.image_url`,
      'is empty',
    ],
    [
      'a source without data',
      [{ type: 'image', source: { type: 'base64' } }],
      'missing_required_parameter',
      `${at}.0.source.url`,
      '',
    ],
    [
      'a file',
      [{ type: 'input_image', file_id: 'file-1' }],
      'missing_required_parameter',
      `${at}.0.image_url`,
      '"file_id" cannot be read',
    ],
    [
      'another detail',
      [{ type: 'image_url', image_url: { url, detail: 'max' } }],
      'invalid_value',
      `${at}.0.image_url.detail`,
      '"high"',
    ],
    [
      'two images',
      [url, url].map((image_url) => ({ type: 'image_url', image_url })),
      'too_many_images',
      'messages',
      '2 images',
    ],
  ])('refuses %s by its name', (_form, content, code, param, message) => {
    const refused = read(chatOf(content))
    expect(refused).toMatchObject({ code, param })
    expect(refused.message).toContain(message)
  })

  test.each<[string, object, string, string]>([
    ['no messages', { messages: [] }, 'messages', 'an array of 1 to 500 items, got an empty array'],
    ['a message that is none', { messages: ['a'] }, 'messages.0', 'must be an object'],
    ['another role', { messages: [{ role: 'tool', content: '' }] }, 'messages.0.role', '"user"'],
  ])('refuses %s', (_form, body, param, message) => {
    const refused = read(body)
    expect(refused.param).toBe(param)
    expect(refused.message).toContain(message)
  })
})

test.each(imagePartForms)('a form that the docs name is understood: %s', (form) => {
  expect(inChat(chatOf([JSON.parse(form)]))).toHaveProperty('imageUrl')
})

describe('what says nothing in a message is told', () => {
  const part = { type: 'image_url', image_url: { url } }
  test.each<[string, object, string[]]>([
    ['nothing', { role: 'user', name: 'ann', content: [{ ...part, detail: 'low', min_pixels: null }] }, []],
    [
      'a field of an image',
      { role: 'user', content: [{ ...part, min_pixels: 9 }] },
      ['content.0.min_pixels'],
    ],
    [
      'a field of its object',
      { role: 'user', content: [{ type: 'image_url', image_url: { url, crop: 1 } }] },
      ['content.0.image_url.crop'],
    ],
    [
      'a second image in a part',
      { role: 'user', content: [{ ...part, url: 'https://example.com/b.jpg' }] },
      ['content.0.url'],
    ],
    [
      'an image in a text',
      { role: 'user', content: [{ type: 'text', text: 'a', image_url: url }, part] },
      ['content.0.image_url'],
    ],
    ["another client's images", { role: 'user', content: [part], images: [base64] }, ['images']],
    ["an image's own description", { role: 'user', content: [{ type: 'image', url, mimeType: 'a' }] }, []],
    ['what an assistant did', { role: 'assistant', content: [part], tool_calls: [], refusal: 'no' }, []],
  ])('%s', (_, message, names) => {
    expect(readChat({ messages: [message] }).ignored).toEqual(names.map((name) => `messages.0.${name}`))
  })

  test('in lines', () => {
    const told = (line: object, endpoint: LineOptions['endpoint'] = '/v1/captions') =>
      parseBatchLine({ number: 1, text: JSON.stringify(line) }, { endpoint, model: 'blip' })
    expect(told({ image_url: { url, crop: 1 } })).toMatchObject({ ask: { ignored: ['image_url.crop'] } })
    const body = chatOf([{ type: 'image_url', image_url: { url, crop: 1 } }])
    expect(told({ body }, '/v1/chat/completions')).toMatchObject({
      ask: { ignored: ['messages.0.content.0.image_url.crop'] },
    })
  })

  test('briefly', () => {
    const fields = Object.fromEntries(
      Array.from({ length: 90 }, (_, index) => [`${'x'.repeat(99)}${index}`, 1]),
    )
    const { ignored } = readChat({ messages: [{ role: 'user', content: [part], ...fields }] })
    expect(ignored).toHaveLength(20)
    expect(ignored[0]!.length).toBeLessThan(70)
  })
})
