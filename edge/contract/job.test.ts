import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CaptionJob, decodeJob, encodeJob, imagesOf, packImages } from './job.ts'

const words = fc.string({ unit: 'grapheme' })
const request = fc
  .record(
    { system: words, text: words, beginning: words, task: words, maxPixels: fc.integer({ min: 1 }) },
    { requiredKeys: [] },
  )
  .filter((fields) => Object.keys(fields).length > 0)

const job: fc.Arbitrary<CaptionJob> = fc.record(
  {
    id: fc.stringMatching(/^[\w-]{1,128}$/),
    tenant: fc.constantFrom('acme', 'a-b_c', '0'),
    model: fc.string({ minLength: 1 }),
    image: fc.uint8Array(),
    acceptedAt: fc.double({ min: 0, max: 1e14, noNaN: true }),
    deadline: fc.integer({ min: 0, max: 1e14 }),
    maxPrune: fc.double({ min: 0, max: 1, noNaN: true }),
    request,
    settings: fc.record(
      {
        temperature: fc.double({ min: 0, max: 2, noNaN: true }),
        topK: fc.integer({ min: 1, max: 99 }),
        seed: fc.maxSafeInteger(),
      },
      { requiredKeys: ['seed'] },
    ),
    n: fc.integer({ min: 1, max: 8 }),
    warnings: fc.constant(['text_ignored'] as const),
    maxTokens: fc.integer({ min: 1 }),
    stop: fc.array(fc.string({ minLength: 1, maxLength: 99, unit: 'grapheme' }), { maxLength: 4 }),
    replyTo: fc.string(),
    traceparent: fc.string(),
    repeatable: fc.constant(true as const),
    streamed: fc.constant(true as const),
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
    'request',
    'settings',
    'n',
    'warnings',
    'image-sizes',
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

test('several images travel in one record', () => {
  const images = [new Uint8Array([1]), new Uint8Array([2, 3]), new Uint8Array([4, 5, 6])]
  const { bytes, imageSizes } = packImages(images)
  const read = decodeJob(encodeJob({ ...example, image: bytes, imageSizes }))
  expect(imagesOf(read, bytes)).toEqual(images)
  expect(packImages([images[0]!])).toEqual({ bytes: images[0] })
})

test.each(['1', '1,3', '2,2', '4', '0,3', '-1,4', '1.5,1.5', 'x,3', '3,', '1e0,2', '9'.repeat(400)])(
  'sizes %s of three bytes are no images',
  (sizes) => {
    const record = encodeJob(example)
    const headers = { ...record.headers, 'image-sizes': sizes }
    expect(() => decodeJob({ ...record, headers })).toThrow(
      expect.objectContaining({ code: 'record_unreadable', param: 'image-sizes' }),
    )
  },
)

test('stored images that are cut off are unreadable', () => {
  const key = 'captions/default/cap_1.image'
  const read = decodeJob(encodeJob({ ...example, image: { key }, imageSizes: [1, 2] }))
  expect(() => imagesOf(read, new Uint8Array(2))).toThrow(expect.objectContaining({ param: 'image-sizes' }))
})

test('the record of an earlier version is read: its prompt is the beginning of the caption', () => {
  const headers = { ...encodeJob(example).headers, prompt: 'a photo of', 'max-tokens': '7' }
  expect(decodeJob({ value: example.image as Uint8Array, headers })).toMatchObject({
    request: { beginning: 'a photo of' },
    maxTokens: 7,
  })
  expect(encodeJob({ ...example, request: { beginning: 'a photo of' } }).headers).toMatchObject({
    prompt: 'a photo of',
  })
})

test.each([
  ['request', '{"text": 5}'],
  ['request', '{"texts": "a"}'],
  ['request', '['],
  ['settings', '{"temperature": 3}'],
  ['settings', '{"temperature": "1"}'],
  ['settings', `{"seed": ${'9'.repeat(3000)}}`],
  ['settings', `[${'0,'.repeat(500)}0]`],
  ['n', '9'],
  ['n', '0'],
])('a header %s of %s is unreadable', (header, value) => {
  const record = encodeJob(example)
  expect(() => decodeJob({ ...record, headers: { ...record.headers, [header]: value } })).toThrow(
    expect.objectContaining({ code: 'record_unreadable', param: header }),
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
