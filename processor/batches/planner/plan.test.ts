import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import { decodePlan, encodePlan, ShardCutter, shardJob } from './plan.ts'

const options = { endpoint: '/v1/captions', model: 'm' } as const
const mib = 2 ** 20

/** Cuts a manifest that comes in pieces of so many bytes. */
async function cut(text: string, pieceBytes = 1000) {
  const bytes = new TextEncoder().encode(text)
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
  }
  const cutter = new ShardCutter(options)
  const shards = []
  for await (const lines of readLines(pieces())) shards.push(...cutter.push(lines))
  shards.push(...cutter.end())
  return { cutter, shards }
}

/** Bare addresses; number and place are all that counts. */
const line = (number: number, start: number, end: number): ManifestLine => ({
  number,
  start,
  end,
  text: `s3://bucket/${number}`,
})

describe('shards', () => {
  test('have at most 256 lines, and empty lines do not count', async () => {
    const { shards, cutter } = await cut(`\n${'s3://b/a\n\n'.repeat(300)}`)
    expect(shards.map(({ lines, firstLine }) => [lines, firstLine])).toEqual([
      [256, 2],
      [44, 514],
    ])
    expect(shards[1]!.start).toBe(1 + 256 * 10)
    expect(cutter.lines).toBe(300)
  })

  test('have at most 16 MiB, but for a line that has more alone', () => {
    const cutter = new ShardCutter(options)
    const lines = [
      line(1, 0, 10 * mib),
      line(2, 10 * mib, 16 * mib),
      line(3, 16 * mib, 17 * mib),
      line(4, 17 * mib, 37 * mib),
      line(5, 37 * mib, 38 * mib),
    ]
    const shards = [...cutter.push(lines), ...cutter.end()]
    expect(shards.map(({ start, end }) => [start / mib, end / mib])).toEqual([
      [0, 16],
      [16, 17],
      [17, 37],
      [37, 38],
    ])
  })

  test('are whole lines, and the same however the manifest is read', async () => {
    const text = fc
      .array(fc.constantFrom('s3://b/a', '', 'nonsense', '{"custom_id":"x","image_url":"s3://b/a"}'), {
        maxLength: 600,
        size: 'max',
      })
      .map((lines) => lines.join('\n'))
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 5000 }), async (text, pieceBytes) => {
        const { shards, cutter } = await cut(text, pieceBytes)
        expect(shards).toEqual((await cut(text)).shards)
        const within = shards.flatMap(({ start, end }) => text.slice(start, end).split('\n'))
        const notEmpty = (line: string) => line !== ''
        expect(within.filter(notEmpty)).toEqual(text.split('\n').filter(notEmpty))
        expect(cutter.lines).toBe(within.filter(notEmpty).length)
      }),
      { numRuns: 50 },
    )
  })
})

describe('lines', () => {
  test('the first of a custom_id counts, also where it cannot be used or nobody gave it', async () => {
    const lines = [
      '{"custom_id":"x"}',
      '{"custom_id":"x","image_url":"s3://b/a"}',
      's3://b/a',
      '{"custom_id":"line-3","image_url":"s3://b/a"}',
    ]
    const { shards, cutter } = await cut(lines.join('\n'))
    expect(shards[0]!.duplicates).toEqual([2, 4])
    expect(cutter.usable).toBe(1)
    expect(cutter.faults).toMatchObject([
      { line: 1, code: 'image_missing' },
      { line: 2, code: 'duplicate_custom_id', customId: 'x' },
      { line: 4, code: 'duplicate_custom_id' },
    ])
  })

  test('only the first faults are kept', async () => {
    const { cutter } = await cut('nonsense\n'.repeat(500))
    expect(cutter.faults).toHaveLength(100)
    expect(cutter.usable).toBe(0)
  })
})

test('the job of a shard says where its lines lie, over all slices of the manifest', () => {
  const base = {
    tenant: 't',
    batch: 'b',
    endpoint: '/v1/captions',
    model: 'm',
    maxPrune: 1,
    expiresAt: 2,
    createdAt: 1,
  } as const
  const manifest = [
    { key: 'one', start: 0, end: 10 },
    { key: 'two', start: 0, end: 10 },
  ]
  const shard = { start: 8, end: 13, firstLine: 4, lines: 2, duplicates: [5] }
  expect(shardJob(base, manifest, 3, shard)).toEqual({
    ...base,
    shard: 3,
    firstLine: 4,
    lines: 2,
    duplicates: [5],
    slices: [
      { key: 'one', start: 8, end: 10 },
      { key: 'two', start: 0, end: 3 },
    ],
  })
})

test('a plan survives being kept', async () => {
  const shards = Array.from({ length: 2500 }, (_, i) => ({
    start: i * 10,
    end: i * 10 + 9,
    firstLine: i + 1,
    lines: 1,
    duplicates: i % 7 === 0 ? [i + 1] : [],
  }))
  const manifest = [{ bucket: 'b', key: 'k', start: 0, end: 25_000 }]
  const plan = { manifest, shards, lines: 2500, usable: 2000 }
  expect(await decodePlan(encodePlan(plan))).toEqual(plan)
  await expect(decodePlan(encodePlan({ ...plan, shards: [] }))).resolves.toMatchObject({ shards: [] })
})
