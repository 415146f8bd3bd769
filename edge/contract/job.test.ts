import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CaptionJob, decodeJob, encodeJob } from './job.ts'

const job: fc.Arbitrary<CaptionJob> = fc.record(
  {
    id: fc.string(),
    tenant: fc.string(),
    model: fc.string(),
    image: fc.oneof(
      fc.uint8Array(),
      fc.record({ key: fc.string({ minLength: 1 }), bytes: fc.nat() }, { requiredKeys: ['key'] }),
    ),
    acceptedAt: fc.double({ min: 0, max: 1e14, noNaN: true }),
    deadline: fc.integer({ min: 0, max: 1e14 }),
    maxPrune: fc.double({ min: 0, max: 1, noNaN: true }),
    prompt: fc.string({ unit: 'grapheme' }),
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
