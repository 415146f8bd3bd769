import fc from 'fast-check'
import { expect, test } from 'vitest'
import { batchForm, formBody } from '../resources.fixture.ts'
import { type FormBody, type FormOptions, readForm } from './form.ts'

type Bytes = Uint8Array<ArrayBuffer>

const text = 'first line\nsecond line\n'
const encoded = await batchForm(text, {
  'expires_after[anchor]': 'created_at',
  'expires_after[seconds]': '3600',
})

interface Sent {
  body?: Bytes | ReadableStream<Uint8Array>
  headers?: Record<string, string>
}

/** Reads a form; `ended` says how it went with the bytes of its file. */
const formIn = ({ headers, body }: Request): FormBody => ({
  contentType: headers.get('content-type') ?? '',
  chunks: body ?? (async function* () {})(),
})

async function read(sent: Sent = {}, options: Partial<FormOptions> = {}) {
  const init = { method: 'POST', ...encoded, ...sent, duplex: 'half' } as RequestInit
  let received = ''
  let ended = 'not begun'
  const receive = async (bytes: ReadableStream<Uint8Array>) => {
    ended = 'never'
    try {
      received = await new Response(bytes).text()
      ended = 'well'
    } catch (error) {
      ended = 'badly'
      throw error
    }
  }
  try {
    const form = await readForm(formIn(new Request('http://localhost/', init)), {
      fileField: 'file',
      maxBytes: 1000,
      receive,
      ...options,
    })
    return { form, received, ended }
  } catch (error) {
    return { error, received, ended }
  }
}

const whole = {
  form: {
    fields: { purpose: 'batch', expires_after: { anchor: 'created_at', seconds: '3600' } },
    filename: 'images.jsonl',
    bytes: text.length,
  },
  received: text,
  ended: 'well',
}

const refusal = (code: string) => expect.objectContaining({ name: 'TurbineError', code })

/** Chunks that come one after the other; an error breaks the stream. */
function streamOf(...chunks: (Bytes | Error)[]) {
  const left = [...chunks]
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const next = left.shift()
        if (next instanceof Error) controller.error(next)
        else if (next) controller.enqueue(next)
        else controller.close()
      },
    },
    { highWaterMark: 0 },
  )
}

test('file, fields and nested fields come out as they went in', async () => {
  expect(await read()).toEqual(whole)
})

test('it does not matter where the network cuts a form', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.nat(encoded.body.length - 1)), async (cuts) => {
      const ends = [...cuts.toSorted((a, b) => a - b), encoded.body.length]
      const chunks = ends.map((end, index) => encoded.body.slice(ends[index - 1] ?? 0, end))
      expect(await read({ body: streamOf(...chunks) })).toEqual(whole)
    }),
  )
})

test('a form that ends too early is refused, and its bytes are not waited for', async () => {
  // What follows the two hyphens behind the last boundary is not needed.
  const enough = encoded.body.length - '\r\n'.length
  await fc.assert(
    fc.asyncProperty(fc.nat(enough - 1), async (length) => {
      const { error, ended } = await read({ body: encoded.body.slice(0, length) })
      expect(error).toEqual(refusal('form_incomplete'))
      expect(ended).not.toBe('never')
    }),
  )
})

test('a connection that breaks fails the bytes too', async () => {
  const inTheFile = new TextDecoder().decode(encoded.body).indexOf('second line')
  const begun = encoded.body.slice(0, inTheFile)
  const { error, ended } = await read({ body: streamOf(begun, new Error('reset')) })
  expect(error).toEqual(refusal('form_incomplete'))
  expect(ended).toBe('badly')
})

test('a file above the limit is refused before it has come as a whole', async () => {
  const { headers, body } = await batchForm('x'.repeat(100_000))
  const split = body.length - 1000
  const rest = streamOf(body.slice(0, split), body.slice(split))
  const { error, received } = await read({ headers, body: rest })
  expect(error).toMatchObject({ status: 413, code: 'file_too_large', param: 'file' })
  expect(received.length).toBeLessThanOrEqual(1000)
})

test.each([0, 1])('what the receiver throws is thrown, after %i chunks of the file', async (chunks) => {
  const { headers, body } = await batchForm('x'.repeat(900_000))
  const away = new Error('away')
  const receive = async (bytes: ReadableStream<Uint8Array>) => {
    const reader = bytes.getReader()
    for (let read = 0; read < chunks; read++) await reader.read()
    throw away
  }
  expect((await read({ headers, body }, { receive, maxBytes: 1e6 })).error).toBe(away)
})

test('a receiver that is slow slows the network down', async () => {
  const { headers, body } = await batchForm('')
  const end = new TextDecoder().decode(body).indexOf('\r\n\r\n') + 4
  const endless = new Uint8Array(64 * 1024)
  let pulled = 0
  const stream = new ReadableStream<Uint8Array>(
    { pull: (controller) => controller.enqueue(pulled++ === 0 ? body.slice(0, end) : endless) },
    { highWaterMark: 0 },
  )
  const stop = Promise.withResolvers<void>()
  const waiting = read({ headers, body: stream }, { maxBytes: 1e9, receive: () => stop.promise })
  await expect.poll(() => pulled).toBeGreaterThan(2)
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(pulled).toBeLessThan(20)
  stop.reject(new Error('enough'))
  expect((await waiting).error).toEqual(new Error('enough'))
})

async function formOf(...parts: [name: string, value: string | File][]) {
  const form = new FormData()
  for (const [name, value] of parts)
    if (typeof value === 'string') form.append(name, value)
    else form.append(name, value)
  return formBody(form)
}

const file = new File(['text'], 'a.jsonl')

test('a file may come without a name', async () => {
  expect((await read(await formOf(['file', 'text']))).form).toEqual({
    fields: {},
    filename: undefined,
    bytes: 4,
  })
})

test.each([
  ['no file', await formOf(['purpose', 'batch']), 400, 'missing_required_parameter', /"file" is missing/],
  ['a file of another name', await formOf(['data', file]), 400, 'missing_required_parameter', /"file"/],
  [
    'a large file of another name',
    await formOf(['data', new File(['x'.repeat(5000)], 'a')]),
    400,
    'form_invalid',
    /"data" has more than 1024 bytes; only "file" may/,
  ],
  ['two files', await formOf(['file', file], ['file', file]), 400, 'form_invalid', /several parts "file"/],
  [
    'very many fields',
    await formOf(['file', file], ...Array.from({ length: 17 }, (_, i): [string, string] => [`f${i}`, ''])),
    400,
    'form_invalid',
    /too many fields/,
  ],
  ['nothing', { body: new Uint8Array(0), headers: encoded.headers }, 400, 'form_incomplete', /ended early/],
  [
    'no form',
    { body: encoded.body, headers: { 'content-type': 'text/plain' } },
    415,
    'content_type_unsupported',
    /text\/plain/,
  ],
  [
    'a form without a boundary',
    { body: encoded.body, headers: { 'content-type': 'multipart/form-data' } },
    400,
    'form_invalid',
    /no boundary/,
  ],
])('%s is refused', async (_name, sent, status, code, message) => {
  const { error, ended } = await read(sent)
  expect(error).toMatchObject({ status, code, message: expect.stringMatching(message) })
  expect(ended).not.toBe('never')
})

test('no body at all is refused', async () => {
  const request = new Request('http://localhost/', { method: 'POST', headers: encoded.headers })
  const receive = () => Promise.resolve()
  await expect(readForm(formIn(request), { fileField: 'file', maxBytes: 1, receive })).rejects.toEqual(
    refusal('form_incomplete'),
  )
})

/** A change of the form's bytes. */
const change = fc.record({
  at: fc.nat(encoded.body.length),
  cut: fc.nat(20),
  bytes: fc.uint8Array({ maxLength: 20 }),
})
const damagedForm = fc
  .tuple(fc.array(change, { maxLength: 4 }), fc.option(fc.nat(encoded.body.length), { nil: undefined }))
  .map(([changes, length]) =>
    changes
      .reduce(
        (body, { at, cut, bytes }) => Buffer.concat([body.subarray(0, at), bytes, body.subarray(at + cut)]),
        Buffer.from(encoded.body),
      )
      .subarray(0, length),
  )
const contentType = fc.oneof(
  fc.constant(encoded.headers['content-type']!),
  fc.stringMatching(/^multipart\/form-data; boundary=[ -~]{0,80}$/),
)

test('any body is a form or a refusal, and its file ends before', async () => {
  const body = fc.oneof(damagedForm, fc.uint8Array())
  await fc.assert(
    fc.asyncProperty(body, contentType, async (bytes, type) => {
      const sent = { body: Uint8Array.from(bytes), headers: { 'content-type': type } }
      const { form, error, ended } = await read(sent)
      expect(ended).not.toBe('never')
      if (form) expect(ended).toBe('well')
      else expect(error).toMatchObject({ name: 'TurbineError', type: 'invalid_request_error' })
    }),
    { numRuns: 300 },
  )
})

test.each(['', '-', '--', '""', ' '])('a form with the boundary "%s" ends', async (boundary) => {
  const headers = { 'content-type': `multipart/form-data; boundary=${boundary}` }
  expect((await read({ headers })).error).toMatchObject({ status: 400 })
})
