import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CaptionJob, decodeJob, encodeJob } from './job.ts'

const job: fc.Arbitrary<CaptionJob> = fc.record(
  {
    id: fc.stringMatching(/^[\w-]{1,128}$/),
    tenant: fc.constantFrom('acme', 'a-b_c', '0'),
    model: fc.string({ minLength: 1 }),
    image: fc.uint8Array(),
    acceptedAt: fc.double({ min: 0, max: 1e14, noNaN: true }),
    deadline: fc.integer({ min: 0, max: 1e14 }),
    maxPrune: fc.double({ min: 0, max: 1, noNaN: true }),
    prompt: fc.string({ unit: 'grapheme' }),
    maxTokens: fc.integer({ min: 1 }),
    stop: fc.array(fc.string({ minLength: 1, maxLength: 99, unit: 'grapheme' }), { maxLength: 4 }),
    replyTo: fc.string(),
    traceparent: fc.string(),
    repeatable: fc.constant(true as const),
  },
  { requiredKeys: ['id', 'tenant', 'model', 'image', 'acceptedAt', 'deadline', 'maxPrune'] },
)

const example: CaptionJob = {
  id: 'cap_1',
  tenant: 'default',
  model: 'starter',
  image: new Uint8Array([1, 2, 3]),
  acceptedAt: 1000,
  deadline: 1500,
  maxPrune: 0.5,
}

test('a job comes out of its record as it went in', () => {
  fc.assert(
    fc.property(job, (value) => {
      expect(decodeJob(encodeJob(value))).toEqual(value)
    }),
  )
})

test.each([
  'captions/other/cap_1.image',
  'captions/default/cap_1.json',
  'captions/default/../other/cap_1.image',
  'captions/default/',
  'files/default/content/file-1',
  'api-keys/0.json',
  '',
])('the image of a record is never the object "%s"', (key) => {
  const record = encodeJob({ ...example, image: { key } })
  expect(() => decodeJob(record)).toThrow(
    expect.objectContaining({ code: 'record_unreadable', param: 'image-key', retriable: false }),
  )
})

test('any headers are a job or a named header', () => {
  const name = fc.constantFrom(
    ...Object.keys(encodeJob(example).headers),
    'image-key',
    'prompt',
    'max-tokens',
    'stop',
    '__proto__',
  )
  const value = fc.oneof(fc.string(), fc.constantFrom('NaN', '-1', '1e400', 'x'.repeat(5000)))
  fc.assert(
    fc.property(fc.dictionary(name, value), fc.boolean(), (headers, whole) => {
      const record = encodeJob(example)
      try {
        decodeJob({ ...record, headers: whole ? { ...record.headers, ...headers } : headers })
      } catch (error) {
        expect(error).toMatchObject({
          code: 'record_unreadable',
          retriable: false,
          param: expect.any(String),
        })
      }
    }),
  )
})

test('the image bytes are the value, as they are', () => {
  expect(encodeJob(example).value).toBe(example.image)
})

test('a stored image travels by key, with an empty value', () => {
  const record = encodeJob({ ...example, image: { key: 'captions/default/cap_1.image' } })
  expect(record.value).toHaveLength(0)
  expect(record.headers['image-key']).toBe('captions/default/cap_1.image')
})

test.each(['turbine-id', 'tenant', 'model', 'accepted-at', 'deadline', 'max-prune'])(
  'a record without the header %s is named unreadable and not tried again',
  (header) => {
    const record = encodeJob(example)
    delete record.headers[header]
    expect(() => decodeJob(record)).toThrow(
      expect.objectContaining({ code: 'record_unreadable', param: header, retriable: false }),
    )
  },
)

test.each(['', 'soon'])('a deadline of "%s" is unreadable', (deadline) => {
  const record = encodeJob(example)
  expect(() => decodeJob({ ...record, headers: { ...record.headers, deadline } })).toThrow(/deadline/)
})
