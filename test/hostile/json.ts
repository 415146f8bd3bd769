import { type Attack, each, forever, tally } from './attack.ts'
import { type Ask, formType, openClient, outcomeName } from './client.ts'

/** `head`, then `item` again and again with commas between, then `tail`: about `bytes` bytes in all. */
export function repeated(bytes: number, [head, item, tail]: readonly [string, string, string]): Buffer {
  return filled(bytes, [head, `${item},`, `${item}${tail}`])
}

/** `head`, `open` as often as fits, and what closes it. */
export function nested(
  bytes: number,
  [head, open, close, tail]: readonly [string, string, string, string],
): Buffer {
  const depth = Math.floor((bytes - head.length - tail.length) / (open.length + close.length))
  const part = (text: string) => Buffer.alloc(text.length * depth, text)
  return Buffer.concat([Buffer.from(head), part(open), part(close), Buffer.from(tail)])
}

/** `head`, `text` as often as fits, `tail`. */
export function filled(bytes: number, [head, text, tail]: readonly [string, string, string]): Buffer {
  const times = Math.max(0, Math.floor((bytes - head.length - tail.length) / text.length))
  return Buffer.concat([Buffer.from(head), Buffer.alloc(times * text.length, text), Buffer.from(tail)])
}

/** An object of as many different keys as fit, inside `head` and `tail`. */
export function manyKeys(bytes: number, [head, tail]: readonly [string, string]): Buffer {
  const unit = '"k0000000":0,'
  const object = repeated(bytes, [head, unit.slice(0, -1), tail])
  for (let at = head.length + 2, i = 0; at < object.length - tail.length; at += unit.length, i++)
    // Digits in an order of their own, which saves a conversion.
    for (let digit = 0, rest = i; rest > 0; digit++, rest = Math.floor(rest / 10))
      object[at + digit] = 48 + (rest % 10)
  return object
}

type Builder = (bytes: number) => Buffer

const text = '{"type":"text","text":""}'
const image = '{"type":"image_url","image_url":{"url":"data:,"}}'
const lists = (head: string, tail: string, items: string[]) =>
  items.map((item): [string, Builder] => [
    `${head.slice(0, 40)} ${item.slice(0, 30)}`,
    (bytes) => repeated(bytes, [head, item, tail]),
  ])

/** JSON that is cheap to send and dear to parse, check or refuse; each of any size in bytes. */
export const hostileJson: ReadonlyMap<string, Builder> = new Map<string, Builder>([
  ...lists('{"messages":[', ']}', [
    '0',
    'null',
    '{}',
    '[]',
    '""',
    '1e308',
    '{"role":"user"}',
    '{"role":"user","content":[{}]}',
  ]),
  ...lists('{"messages":[{"role":"user","content":[', ']}]}', [
    '0',
    '{}',
    '[]',
    text,
    image,
    '{"type":"image_url","image_url":{}}',
  ]),
  ...lists('[', ']', ['0', '{}', '[[]]']),
  ...lists('{"image_url":[', ']}', ['0', '{}']),
  ...lists('{"part_ids":[', ']}', ['0', '""', '{}']),
  ['deep lists', (bytes) => nested(bytes, ['{"messages":', '[', ']', '}'])],
  ['deep lists at the top', (bytes) => nested(bytes, ['', '[', ']', ''])],
  ['deep lists that never close', (bytes) => filled(bytes, ['', '[', ''])],
  ['deep objects', (bytes) => nested(bytes, ['{"image_url":"data:,","turbine":{"a":', '{"a":[', ']}', '}}'])],
  ['deep metadata', (bytes) => nested(bytes, ['{"metadata":{"a":', '[', ']', '}}'])],
  ['many keys', (bytes) => manyKeys(bytes, ['{', '}'])],
  ['many keys beside the image', (bytes) => manyKeys(bytes, ['{"image_url":"data:,",', '}'])],
  ['many keys in turbine', (bytes) => manyKeys(bytes, ['{"image_url":"data:,","turbine":{', '}}'])],
  [
    'many keys in metadata',
    (bytes) => manyKeys(bytes, ['{"endpoint":"/v1/captions","completion_window":"24h","metadata":{', '}}']),
  ],
  ['many keys in a message', (bytes) => manyKeys(bytes, ['{"messages":[{"role":"user",', '}]}'])],
  ['one key again and again', (bytes) => repeated(bytes, ['{', '"model":"a"', '}'])],
  ['a long key', (bytes) => filled(bytes, ['{"', 'k', '":0}'])],
  ['a long number', (bytes) => filled(bytes, ['{"image_url":"data:,","turbine":{"max_prune":0.', '1', '}}'])],
  ['a long integer', (bytes) => filled(bytes, ['{"messages":', '9', '}'])],
  ['a long exponent', (bytes) => filled(bytes, ['{"n":1e', '9', '}'])],
  ['a long model', (bytes) => filled(bytes, ['{"image_url":"data:,","model":"', 'm', '"}'])],
  [
    'a long prompt of escapes',
    (bytes) => filled(bytes, ['{"image_url":"data:,","prompt":"', '\\u0000', '"}']),
  ],
  ['a long text of half characters', (bytes) => filled(bytes, ['{"model":"', '\\ud800', '"}'])],
  ['a text that never ends', (bytes) => filled(bytes, ['{"image_url":"', 'A', ''])],
  ['space', (bytes) => filled(bytes, ['{"image_url":', ' ', '"data:,"}'])],
  ['space before', (bytes) => filled(bytes, ['', '\n', '{"image_url":"data:,"}'])],
  ['bytes that are no UTF-8', (bytes) => Buffer.alloc(bytes, 0xff)],
  ['zero bytes', (bytes) => Buffer.alloc(bytes)],
  [
    'an image that is no base64',
    (bytes) => filled(bytes, ['{"image_url":"data:image/png;base64,', '!', '"}']),
  ],
  ['an image cut off', (bytes) => filled(bytes, ['{"image_url":"data:image/png;base64,A', 'AAAA', '"}'])],
  ['an image in percent codes', (bytes) => filled(bytes, ['{"image_url":"data:image/png,', '%00', '"}'])],
  [
    'an image in escapes',
    (bytes) => filled(bytes, ['{"image_url":"data:image/png;base64,', '\\u0041', '"}']),
  ],
  [
    'an image in escaped slashes',
    (bytes) => filled(bytes, ['{"image_url":"data:image/png;base64,', '\\/', '"}']),
  ],
  ['a data URL without a comma', (bytes) => filled(bytes, ['{"image_url":"data:', 'A', '"}'])],
  [
    'a data URL of parameters',
    (bytes) => filled(bytes, ['{"image_url":"data:image/png', ';a=b', ';base64,AAAA"}']),
  ],
  ['a data URL of media type', (bytes) => filled(bytes, ['{"image_url":"data:', 'A', ';base64,AAAA"}'])],
  ['a long https address', (bytes) => filled(bytes, ['{"image_url":"https://example.com/', 'a', '"}'])],
  ['a long https host', (bytes) => filled(bytes, ['{"image_url":"https://', 'a.', 'example/"}'])],
  ['a long s3 address', (bytes) => filled(bytes, ['{"image_url":"s3://bucket/', '../', '"}'])],
  ['a long other scheme', (bytes) => filled(bytes, ['{"image_url":"', 'a', '://x"}'])],
  [
    'a chat image that is no base64',
    (bytes) =>
      filled(bytes, [
        '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,',
        '!',
        '"}}]}]}',
      ]),
  ],
  [
    'an image, then a list',
    (bytes) =>
      repeated(bytes, [`{"image_url":"data:image/png;base64,${'A'.repeat(1024)}","messages":[`, '0', ']}']),
  ],
  [
    'a list, then an image',
    (bytes) => repeated(bytes, ['{"a":[', '0', `],"image_url":"data:image/png;base64,${'A'.repeat(1024)}"}`]),
  ],
])

/** Every route that reads JSON, and some that should not be made to. */
export const jsonRoutes: readonly string[] = [
  '/v1/chat/completions',
  '/v1/captions',
  '/v1/batches',
  '/v1/uploads',
  '/v1/uploads/upload_none/complete',
  '/v1/uploads/upload_none/cancel',
  '/v1/batches/batch_none/cancel',
  '/internal/replies/cap_none',
]

/** The largest body that captions and chat take, and one that a small container already felt. */
export const jsonSizes: readonly number[] = [20 * 1024 * 1024 - 1024, 3 * 1024 * 1024, 1024 * 1024 - 1024]

/** Forms of very many parts, fields, header lines and brackets. */
export const hostileForms: ReadonlyMap<string, Builder> = new Map<string, Builder>([
  ['very many fields', (bytes) => formText(bytes, 'content-disposition: form-data; name="a"\r\n\r\nb\r\n')],
  [
    'very many files',
    (bytes) => formText(bytes, 'content-disposition: form-data; name="file"; filename="f"\r\n\r\nb\r\n'),
  ],
  [
    'very many header lines',
    (bytes) => filled(bytes, ['--a-boundary-of-an-attack\r\n', 'x-a: b\r\n', '\r\n\r\n']),
  ],
  ['a long header line', (bytes) => filled(bytes, ['--a-boundary-of-an-attack\r\nx-a: ', 'b', '\r\n\r\n'])],
  [
    'a long name',
    (bytes) =>
      filled(bytes, [
        '--a-boundary-of-an-attack\r\ncontent-disposition: form-data; name="',
        'n',
        '"\r\n\r\nb',
      ]),
  ],
  [
    'nearly boundaries',
    (bytes) =>
      filled(bytes, [
        '--a-boundary-of-an-attack\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n',
        '\r\n--a-boundary-of-an-attac',
        '',
      ]),
  ],
  ['a long preamble', (bytes) => filled(bytes, ['', '\r\n-', ''])],
])

const formText = (bytes: number, part: string) =>
  filled(bytes, ['', `--a-boundary-of-an-attack\r\n${part}`, '--a-boundary-of-an-attack--\r\n'])

/** Requests of little body whose header fields or query are the attack. */
export const hostileHeaders: readonly Ask[] = [
  { method: 'GET', path: '/v1/models', headers: { authorization: `bearer ${' '.repeat(8000)}x x` } },
  {
    method: 'GET',
    path: '/v1/files/file-none/content',
    headers: { range: `bytes=${'0-0,'.repeat(2000)}0-` },
  },
  { path: '/v1/captions', type: `multipart/form-data;${' a=b;'.repeat(1500)}`, body: Buffer.from('{}') },
  { path: '/v1/captions', headers: { 'idempotency-key': 'k'.repeat(8000) }, body: Buffer.from('{}') },
  {
    path: '/v1/captions',
    headers: { prefer: `${'wait=1,'.repeat(1000)}respond-async` },
    body: Buffer.from('{}'),
  },
  { path: '/v1/captions', headers: { traceparent: '0'.repeat(8000) }, body: Buffer.from('{}') },
  { path: '/v1/files', type: `multipart/form-data; boundary=${'-'.repeat(8000)}`, body: Buffer.from('--') },
  { method: 'GET', path: `/v1/files?${'after=a&'.repeat(1500)}` },
  { method: 'GET', path: `/v1/batches?limit=${'9'.repeat(8000)}` },
  { method: 'GET', path: `/${'%2e%2e/'.repeat(1500)}` },
  { method: 'GET', path: `/v1/captions/${'%'.repeat(8000)}` },
]

/** Every hostile body at every JSON route, and forms and header fields of the same kind. */
export function jsonRequests(sizes: readonly number[] = jsonSizes): (() => Ask)[] {
  const requests: (() => Ask)[] = hostileHeaders.map((ask) => () => ask)
  // A body that a route refuses by its length is no work.
  for (const size of sizes)
    for (const build of hostileJson.values())
      for (const path of jsonRoutes)
        if (size <= 1024 * 1024 || path === '/v1/captions' || path === '/v1/chat/completions')
          requests.push(() => ({ path, body: build(size) }))
  for (const size of sizes)
    for (const build of hostileForms.values())
      for (const path of ['/v1/files', '/v1/uploads/upload_none/parts'])
        requests.push(() => ({ path, type: formType, body: build(size) }))
  return requests
}

export const json: Attack = {
  title: 'JSON that is cheap to send and dear to read',
  async run(target) {
    const client = openClient(target)
    const { outcomes, count } = tally()
    const { signal, share = 1 } = target
    const requests = jsonRequests(jsonSizes.map((size) => Math.max(1024, Math.round(size * share))))
    await each(forever(interleaved(requests)), { concurrency: 4, signal }, async (ask) => {
      count(outcomeName(await client.send(ask())))
    })
    await client.close()
    return outcomes
  },
}

/** The same items, neighbours far apart, so that a short attack has tried a bit of everything. */
function interleaved<T>(items: readonly T[]): T[] {
  // A prime stride visits every place once, unless the length is a multiple of it.
  const stride = items.length % 61 === 0 ? 67 : 61
  return items.map((_, i) => items[(i * stride) % items.length]!)
}
