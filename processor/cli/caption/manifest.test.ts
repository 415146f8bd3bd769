import { hash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { readLines } from '../../../edge/contract/lines.ts'
import { readList } from '../../../edge/contract/lists/list-file.ts'
import { type LineOptions, parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import { ShardCutter } from '../../batches/planner/plan.ts'
import { readSources } from './inputs.ts'
import { lineSource, type Source } from './manifest.ts'

const parse = (text: string) =>
  lineSource(
    { text, number: 7, start: 0, end: 0 },
    { manifest: 'list.jsonl', folder: '/data', model: 'blip' },
  )

test('a path is relative to the manifest and named as written', () => {
  expect(parse('{"image": "a/b.jpg", "custom_id": "x"}')).toEqual({
    image: 'a/b.jpg',
    location: '/data/a/b.jpg',
    customId: 'x',
  })
  expect(parse('a/b.jpg')).toEqual({ image: 'a/b.jpg', location: '/data/a/b.jpg' })
  expect(parse('"a/b.jpg"')).toEqual({ image: 'a/b.jpg', location: '/data/a/b.jpg' })
  expect(parse('{"image_url": {"url": "a/b.jpg"}}')).toEqual({ image: 'a/b.jpg', location: '/data/a/b.jpg' })
  expect(parse('/abs/b.jpg')).toEqual({ image: '/abs/b.jpg', location: '/abs/b.jpg' })
})

test('a data: URL is named by the hash of its bytes', () => {
  const url = `data:image/png;base64,${Buffer.from('picture').toString('base64')}`
  expect(parse(JSON.stringify({ image: url }))).toEqual({
    image: `sha256:${hash('sha256', 'picture')}`,
    location: url,
  })
})

test('what is too long for a name is named by its hash, so that outputs have short lines', () => {
  const text = 'x'.repeat(9000)
  for (const line of [text, JSON.stringify({ image: text })])
    expect(parse(line)).toEqual({ image: `sha256:${hash('sha256', text)}`, location: text })
})

test('what is not of this command is ignored: outputs, errors and tables of others are manifests too', () => {
  const turbine = { prune_level: 1, model: 'other', max_prune: 0.5 }
  const line = { image: 'a.jpg', caption: 'a cat', turbine, url: 'https://example.com/', prompt: null }
  expect(parse(JSON.stringify(line))).toEqual({ image: 'a.jpg', location: '/data/a.jpg', maxPrune: 0.5 })
})

test('a line that fails is named by its number', () => {
  const source = parse('{"image": ')
  expect(source).toMatchObject({ image: 'list.jsonl:7', error: { code: 'invalid_json_line' } })
  expect(source?.error?.message).toContain('Line 7 of list.jsonl')
  expect(source?.location).toBeUndefined()
})

const url = 'https://example.com/a.jpg'
const data = 'data:image/jpeg;base64,/9j/4AAQ'
const captions: LineOptions = { endpoint: '/v1/captions', model: 'blip' }

/** A line of OpenAI's. */
const chat = (change: object = {}) =>
  JSON.stringify({
    custom_id: 'a',
    method: 'POST',
    url: '/v1/chat/completions',
    body: {
      model: 'blip',
      messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: data } }] }],
      max_tokens: 50,
    },
    ...change,
  })

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** The parsed request, or the code of the error; nothing for an empty line. */
type Read =
  | { customId: string | null; image: string; prompt?: string; maxPrune?: number }
  | string
  | undefined

async function batchRoad(manifest: Uint8Array, endpoint: LineOptions['endpoint']): Promise<Read[]> {
  const options = { ...captions, endpoint }
  const cutter = new ShardCutter(options)
  const reads: Read[] = []
  for await (const lines of readLines(readList(streamOf(manifest), 'work.jsonl'))) {
    cutter.push(lines)
    for (const line of lines) {
      const read = parseBatchLine(line, options)
      const code = cutter.faults.find((fault) => fault.line === line.number)?.code
      if (code !== undefined) reads.push(code)
      else if (read && 'ask' in read) {
        const { customId, imageUrls, request, maxPrune } = read.ask
        const unnamed = customId === `line-${line.number}`
        reads.push({
          customId: unnamed ? null : customId,
          image: imageUrls[0],
          prompt: request?.beginning,
          maxPrune,
        })
      }
    }
  }
  return reads
}

async function captionRoad(manifest: Uint8Array): Promise<Read[]> {
  const read = ({ customId, location, prompt, maxPrune, error }: Source): Read =>
    location === undefined
      ? (error?.code ?? 'none')
      : { customId: customId ?? null, image: location, prompt, maxPrune }
  const reads: Read[] = []
  for await (const source of readSources([{ kind: 'stdin' }], { stdin: streamOf(manifest), model: 'blip' }))
    reads.push(read(source))
  return reads
}

const bytesOf = (text: string) => new TextEncoder().encode(text)
const asked = (customId: string | null, image = url, more: object = {}) => ({ customId, image, ...more })

describe('a batch and the command line read the same line alike', () => {
  test.each<[name: string, line: string, expected: Read]>([
    ['image_url', `{"image_url": "${data}", "custom_id": "s1"}`, asked('s1', data)],
    ['image_url as an object', `{"image_url": {"url": "${data}"}, "custom_id": "obj"}`, asked('obj', data)],
    [
      'image_url as of a chat',
      `{"image_url": {"url": "${url}", "detail": "low"}, "custom_id": "obj"}`,
      asked('obj'),
    ],
    ['image', `{"image": "${data}", "custom_id": "image-key"}`, asked('image-key', data)],
    ['a bare address', url, asked(null)],
    ['a bare data: URL', data, asked(null, data)],
    ['a quoted address', `"${url}"`, asked(null)],
    ['an address of S3', 's3://photos/a.jpg', asked(null, 's3://photos/a.jpg')],
    ['a byte order mark', `\uFEFF{"image": "${url}"}`, asked(null)],
    ['a carriage return', `{"image": "${url}", "custom_id": "a"}\r`, asked('a')],
    ['a carriage return behind an address', `${url}\r`, asked(null)],
    ['an empty line', '', undefined],
    ['a blank line', ' \t\r', undefined],
    [
      'a prompt and max_prune',
      `{"image": "${url}", "prompt": "a photo of", "turbine": {"max_prune": 0}}`,
      asked(null, url, { prompt: 'a photo of', maxPrune: 0 }),
    ],
    ['nulls', `{"image": "${url}", "custom_id": null, "prompt": null, "turbine": null}`, asked(null)],
    ['its own model', `{"image": "${url}", "model": "blip"}`, asked(null)],
    ['another model', `{"image": "${url}", "model": "other"}`, 'model_mismatch'],
    ['a prompt that is no text', `{"image": "${url}", "prompt": 1}`, 'invalid_type'],
    ['a long prompt', `{"image": "${url}", "prompt": "${'a'.repeat(201)}"}`, 'prompt_too_long'],
    ['too much pruning', `{"image": "${url}", "turbine": {"max_prune": 2}}`, 'invalid_value'],

    ['a number', `{"image": "${url}", "custom_id": 5}`, asked('5')],
    ['zero', `{"image": "${url}", "custom_id": 0}`, asked('0')],
    ['a fraction', `{"image": "${url}", "custom_id": 2.5}`, 'invalid_custom_id'],
    ['a number that loses digits', `{"image": "${url}", "custom_id": 9007199254740993}`, 'invalid_custom_id'],
    ['a truth', `{"image": "${url}", "custom_id": true}`, 'invalid_custom_id'],
    ['an empty id', `{"image": "${url}", "custom_id": ""}`, 'invalid_custom_id'],
    ['an id that is an object', `{"image": "${url}", "custom_id": {}}`, 'invalid_custom_id'],

    ...['path', 'file_name', 'filename', 'image_path', 'file'].map((name): [string, string, Read] => [
      `${name} for the image`,
      `{"custom_id": "${name}", "${name}": "${url}"}`,
      asked(name),
    ]),
    ['an image of a data set', `{"image": {"path": "${url}", "bytes": null}}`, asked(null)],
    ['bytes of a data set', `{"image": {"path": null, "bytes": "x"}}`, 'missing_required_parameter'],
    ['a field that only looks like it', `{"paths": "${url}"}`, 'image_missing'],
    ['no image', '{"custom_id": "a"}', 'image_missing'],
    ['an image that is a number', '{"image": 3}', 'invalid_type'],
    ['an image without a text', '{"image": ""}', 'invalid_value'],
    ['an address without a text', '{"image_url": ""}', 'invalid_value'],
    ['half a line', '{"image": ', 'invalid_json_line'],
    ['an array', `["${url}"]`, asked(null)],
    ['an empty text', '""', 'invalid_json_line'],

    ["OpenAI's form", chat(), asked('a', data)],
    ["OpenAI's form without a custom_id", chat({ custom_id: undefined }), asked(null, data)],
    ['U+2028 in a string', chat({ custom_id: 'a\u2028b' }), asked('a\u2028b', data)],
    ['U+0085 in a string', chat({ custom_id: 'c\u0085d' }), asked('c\u0085d', data)],
    ['no method', chat({ method: undefined }), asked('a', data)],
    ['no url', chat({ url: undefined }), asked('a', data)],
    ['no body', chat({ body: undefined }), 'missing_required_parameter'],
    ['url', `{"url": "${data}", "custom_id": "a"}`, asked('a', data)],
    ['a method in small letters', chat({ method: 'post' }), asked('a', data)],
    ['another method', chat({ method: 'GET' }), 'method_invalid'],
    ['a whole address', chat({ url: 'https://api.example.com/v1/chat/completions' }), asked('a', data)],
    [
      'a whole address with a path',
      chat({ url: 'https://a.b/openai/v1/chat/completions' }),
      asked('a', data),
    ],
    ['an endpoint without its slash', chat({ url: 'v1/chat/completions' }), asked('a', data)],
    [
      'base64',
      data.slice(data.indexOf(',') + 1).padEnd(80, 'A'),
      asked(null, `data:;base64,${data.slice(data.indexOf(',') + 1).padEnd(80, 'A')}`),
    ],
    [
      'the caption',
      chat({ body: { ...JSON.parse(chat()).body, stop: ['.'], max_completion_tokens: 9 } }),
      asked('a', data),
    ],
    ['what cannot be done', chat({ body: { ...JSON.parse(chat()).body, n: 2 } }), 'unsupported_parameter'],
    ['a deadline', `{"image": "${url}", "turbine": {"deadline_ms": 5}}`, 'unsupported_parameter'],
    ['a detail', `{"image_url": {"url": "${url}", "detail": "high"}}`, asked(null, url, { maxPrune: 0 })],
    ['another endpoint', chat({ url: '/v1/responses' }), 'url_mismatch'],
    ['a field beside the body', chat({ foo: 1 }), 'unknown_parameter'],
    ['a chat without an image', chat({ body: { messages: [{ role: 'user' }] } }), 'image_missing'],
    [
      'a chat for another model',
      chat({ body: { ...JSON.parse(chat()).body, model: 'x' } }),
      'model_mismatch',
    ],
  ])('%s', async (_, line, expected) => {
    const wanted = expected === undefined ? [] : [expected]
    for (const manifest of [line, `${line}\n`, `\n${line}\n\n`].map(bytesOf)) {
      expect(await captionRoad(manifest)).toEqual(wanted)
      expect(await batchRoad(manifest, '/v1/chat/completions')).toEqual(wanted)
    }
  })

  test('captions in the form of OpenAI', async () => {
    const line = bytesOf(chat({ url: '/v1/captions', body: { image_url: url, prompt: 'a' } }))
    const expected = [asked('a', url, { prompt: 'a' })]
    expect(await captionRoad(line)).toEqual(expected)
    expect(await batchRoad(line, '/v1/captions')).toEqual(expected)
  })

  test.each<[string, Uint8Array, Read[]]>([
    ['UTF-16', Buffer.from(`\uFEFF"${url}"\r\n"${url}"`, 'utf16le'), [asked(null), asked(null)]],
    ['UTF-16, the other way', Buffer.from(`\uFEFF${url}\n`, 'utf16le').swap16(), [asked(null)]],
    ['Latin-1', Buffer.from(`{"image": "${url}", "custom_id": "é"}`, 'latin1'), ['invalid_json_line']],
    ['a table', bytesOf(`custom_id,image_url\na,${url}\n`), [asked('a')]],
    [
      'an array',
      bytesOf(JSON.stringify([url, { image: url, custom_id: 'a' }], undefined, 1)),
      [asked(null), asked('a')],
    ],
  ])('text in %s', async (_, manifest, expected) => {
    expect(await captionRoad(manifest)).toEqual(expected)
    expect(await batchRoad(manifest, '/v1/captions')).toEqual(expected)
  })
})

describe('what differs', () => {
  test.each([
    ['a path', 'photos/a.jpg', 'invalid_json_line'],
    ['a quoted path', '"photo.jpg"', 'invalid_json_line'],
    ['a path as image', '{"image": "photos/a.jpg"}', 'image_url_invalid'],
    ['a path as image_url', '{"image_url": {"url": "photos/a.jpg"}}', 'image_url_invalid'],
    ['an address of a file', '{"image": "file:///a.jpg"}', 'image_url_invalid'],
  ])('%s is of this machine, and a batch refuses it', async (_, line, code) => {
    expect(await captionRoad(bytesOf(line))).toMatchObject([{ image: expect.stringContaining('.jpg') }])
    expect(await batchRoad(bytesOf(line), '/v1/captions')).toEqual([code])
  })

  test('a batch refuses unknown fields', async () => {
    const line = bytesOf(`{"image": "${url}", "custom_id": "extra", "text": "old"}`)
    expect(await captionRoad(line)).toEqual([asked('extra')])
    expect(await batchRoad(line, '/v1/captions')).toEqual(['unknown_parameter'])
  })

  test('a batch refuses an id that comes twice, as a number or as its text', async () => {
    const manifest = bytesOf(
      [1, '1', 2].map((id) => JSON.stringify({ image: url, custom_id: id })).join('\n'),
    )
    expect(await captionRoad(manifest)).toEqual([asked('1'), asked('1'), asked('2')])
    expect(await batchRoad(manifest, '/v1/captions')).toEqual([asked('1'), 'duplicate_custom_id', asked('2')])
  })

  test('a batch refuses long lines', async () => {
    const long = `data:image/png;base64,${'A'.repeat(32 * 2 ** 20)}`
    const [read] = await captionRoad(bytesOf(long))
    expect(typeof read === 'object' && read.image === long).toBe(true)
    expect(await batchRoad(bytesOf(long), '/v1/captions')).toEqual(['line_too_long'])
  })
})
