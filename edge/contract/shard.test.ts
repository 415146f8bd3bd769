import fc from 'fast-check'
import { expect, test } from 'vitest'
import { earlierReading } from './batch.ts'
import { keys } from './keys.ts'
import { blipCapabilities } from './model.ts'
import {
  type Control,
  decodeControl,
  decodeShardJob,
  emptyTally,
  encodeControl,
  encodeShardJob,
  type ShardJob,
} from './shard.ts'

const job: ShardJob = {
  tenant: 'acme',
  batch: 'batch_1',
  shard: 0,
  endpoint: '/v1/captions',
  model: 'blip',
  reading: {
    ...{ ignored: ['user'], aliases: { 'gpt-4o-mini': 'blip' }, maxText: 100, maxImages: 2 },
    can: {
      ...blipCapabilities,
      follows_text: 'tasks',
      tasks: ['<OD>'],
      text_tasks: [],
      parameters: ['seed'],
    },
  },
  maxPrune: 1,
  expiresAt: 2,
  createdAt: 1,
  slices: [{ key: keys.fileContent('acme', 'file-1'), start: 0, end: 9 }],
  firstLine: 1,
  lines: 2,
  duplicates: [],
}

const controls: Control[] = [
  { type: 'batch_created', tenant: 'acme', batch: 'batch_1' },
  { type: 'batch_cancelled', tenant: 'acme', batch: 'batch_1' },
  { type: 'shard_done', tenant: 'acme', batch: 'batch_1', shard: 3, tally: emptyTally, replaced: true },
  { type: 'shard_repaid', tenant: 'acme', batch: 'batch_1', shard: 3, tally: emptyTally, pending: 1 },
]

const unreadable = expect.objectContaining({ code: 'record_unreadable', retriable: false })
const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

test.each([
  job,
  { ...job, repay: { until: 5 } },
  { ...job, slices: [{ bucket: 'theirs', key: 'anything', start: 0, end: 1 }] },
  { ...job, slices: [{ key: keys.uploadPart('acme', 'upload_1', 'part_1'), start: 0, end: 1 }] },
  { ...job, slices: [{ key: keys.batchManifest('acme', 'batch_1'), start: 0, end: 1 }] },
])('a shard comes out of its record as it went in: %j', (each) => {
  expect(decodeShardJob(encodeShardJob(each))).toEqual(each)
})

test('lines of a shard of an earlier version are read as that read them', () => {
  const { reading } = decodeShardJob(encodeShardJob({ ...job, reading: undefined }))
  expect(reading).toEqual(earlierReading)
})

test.each(controls)('$type comes out of its record as it went in', (control) => {
  expect(decodeControl(encodeControl(control))).toEqual(control)
})

test.each([
  keys.fileContent('other', 'file-1'),
  keys.batchManifest('acme-2', 'batch_1'),
  keys.apiKey('0'),
  keys.tenant('acme'),
])('a record cannot name %s as lines of acme', (key) => {
  const slices = [{ key, start: 0, end: 1 }]
  expect(() => decodeShardJob(encodeShardJob({ ...job, slices }))).toThrow(unreadable)
})

test.each<Partial<Record<keyof ShardJob, unknown>>>([
  { tenant: '../other' },
  { batch: 'a/b' },
  { shard: -1 },
  { endpoint: '/v1/other' },
  { maxPrune: 2 },
  { lines: 1e9 },
  { duplicates: Array(300).fill(1) },
  { slices: Array(10_001).fill(job.slices[0]) },
  { slices: [{ key: 'a', start: -1, end: 2 }] },
  { repay: true },
])('a damaged shard is unreadable: %j', (damage) => {
  expect(() => decodeShardJob({ value: bytesOf({ ...job, ...damage }) })).toThrow(unreadable)
})

test('any bytes are a record or unreadable', () => {
  const damaged = fc
    .tuple(fc.constantFrom<object>(job, ...controls), fc.string(), fc.jsonValue())
    .map(([record, field, value]) => bytesOf({ ...record, [field]: value }))
  const cut = fc.nat(200).map((length) => bytesOf(job).subarray(0, length))
  const bytes = fc.oneof(fc.uint8Array(), fc.jsonValue().map(bytesOf), damaged, cut)
  fc.assert(
    fc.property(bytes, fc.constantFrom(decodeShardJob, decodeControl), (value, decode) => {
      try {
        decode({ value })
      } catch (error) {
        expect(error).toEqual(unreadable)
      }
    }),
  )
})

test('a record of megabytes of lists is refused before it is parsed', () => {
  expect(() => decodeControl({ value: new TextEncoder().encode('['.repeat(8_000_000)) })).toThrow(unreadable)
})
