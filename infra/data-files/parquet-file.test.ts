import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SchemaElement } from 'hyparquet'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DataFileError } from './data-file-error.ts'
import { openParquet } from './parquet-file.ts'
import { type OutputColumn, ParquetOutput } from './parquet-output.ts'

let folder: string
let path: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-parquet-'))
  path = join(folder, 'a.parquet')
})
afterEach(() => rm(folder, { recursive: true }))

const optional = (name: string, element: Partial<SchemaElement>): SchemaElement => ({
  name,
  repetition_type: 'OPTIONAL',
  ...element,
})
const columnsOf = (...elements: SchemaElement[]): OutputColumn[] =>
  elements.map((element) => ({ elements: [element] }))

async function write(columns: readonly OutputColumn[], rows: readonly unknown[][]): Promise<void> {
  const handle = await open(path, 'w')
  const output = new ParquetOutput(handle, columns)
  await output.write(rows)
  await output.finish()
  await handle.close()
}

async function rowsOf(options = {}): Promise<unknown[][]> {
  const file = await openParquet(path)
  const rows: unknown[][] = []
  try {
    for await (const { count, columns } of file.batches(options))
      for (let index = 0; index < count; index++)
        rows.push([...columns.values()].map((values) => values[index]))
  } finally {
    await file.close()
  }
  return rows
}

const picture = (size: number, fill: number) => new Uint8Array(size).fill(fill)

test('rows come in batches whose largest column takes few bytes, whatever the row group', async () => {
  const columns = columnsOf(optional('bytes', { type: 'BYTE_ARRAY' }), optional('n', { type: 'INT32' }))
  // One row group: it ends by bytes only behind 8 MiB.
  const rows = Array.from({ length: 15 }, (_, index) => [picture(500_000, index), index])
  await write(columns, rows)
  const file = await openParquet(path)
  const counts: number[] = []
  for await (const { count } of file.batches()) counts.push(count)
  await file.close()
  expect(counts.length).toBeGreaterThan(1)
  expect(counts.reduce((sum, count) => sum + count)).toBe(15)
  expect((await rowsOf({ columns: ['n'], from: 7 })).flat()).toEqual([7, 8, 9, 10, 11, 12, 13, 14])
  expect((await rowsOf()).map(([bytes]) => (bytes as Uint8Array)[0])).toEqual(rows.map(([, index]) => index))
})

test('values are written again as they are stored', async () => {
  const elements = [
    optional('time', {
      type: 'INT64',
      logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'NANOS' },
    }),
    optional('text', { type: 'BYTE_ARRAY', converted_type: 'UTF8' }),
    optional('money', { type: 'INT64', converted_type: 'DECIMAL', precision: 18, scale: 2 }),
    optional('small', {
      type: 'INT32',
      converted_type: 'UINT_8',
      logical_type: { type: 'INTEGER', bitWidth: 8, isSigned: false },
    }),
  ]
  const stored = [
    [1234567890123456789n, Buffer.from([0xff, 0x61]), 123456789012345678n, 200],
    [null, null, null, null],
  ]
  await write(
    elements.map((element) => ({ elements: [element], stored: true })),
    stored,
  )
  const [first, second] = await rowsOf({ stored: true })
  expect(first).toEqual([1234567890123456789n, new Uint8Array([0xff, 0x61]), 123456789012345678n, 200])
  expect(second!.map((value) => value ?? null)).toEqual([null, null, null, null])
  const file = await openParquet(path)
  expect(file.columns.map(({ element }) => element.converted_type)).toEqual([
    undefined,
    'UTF8',
    'DECIMAL',
    'UINT_8',
  ])
  await file.close()
})

describe('what a file says of itself is not trusted', () => {
  const make = () =>
    write(columnsOf(optional('n', { type: 'INT32' }), optional('t', { type: 'BYTE_ARRAY' })), [
      ...Array.from({ length: 100 }, (_, index) => [index, Buffer.from(`text ${index}`)]),
    ])

  const edit = async (change: (bytes: Buffer) => Buffer) => {
    await make()
    await writeFile(path, change(await readFile(path)))
  }

  test.each<[string, (bytes: Buffer) => Buffer]>([
    ['without its end', (bytes) => bytes.subarray(0, -20)],
    ['with half of its middle', (bytes) => Buffer.concat([bytes.subarray(0, 60), bytes.subarray(200)])],
    ['of a few bytes', () => Buffer.from('PAR1PAR1')],
    ['that is empty', () => Buffer.alloc(0)],
    ['of something else', () => Buffer.from('{"image": "a.jpg"}\n'.repeat(100))],
    [
      'with a footer larger than itself',
      (bytes) => {
        bytes.writeUInt32LE(0xffff_fff0, bytes.length - 8)
        return bytes
      },
    ],
    [
      'with a footer of nothing',
      (bytes) => {
        bytes.writeUInt32LE(0, bytes.length - 8)
        return bytes
      },
    ],
  ])('a file %s', async (_, change) => {
    await edit(change)
    await expect(rowsOf()).rejects.toThrow(DataFileError)
    await expect(rowsOf()).rejects.toThrow(path)
  })

  test('any byte of the footer may be another one', async () => {
    await make()
    const whole = await readFile(path)
    const start = whole.length - 8 - whole.readUInt32LE(whole.length - 8)
    for (let at = start; at < whole.length; at++)
      for (const value of [0x00, 0xff, whole[at]! ^ 0x10]) {
        const changed = Buffer.from(whole)
        changed[at] = value
        await writeFile(path, changed)
        const error = await openParquet(path).then(
          (file) => file.close(),
          (thrown) => thrown,
        )
        if (error) expect(error, `byte ${at} as ${value}`).toBeInstanceOf(DataFileError)
      }
  })

  test.each([
    ['billions of values of a few bytes', [0xff, 0xff, 0xff, 0xff, 0x07]],
    ['runs of nothing', [0x00, 0x00, 0x00, 0x00, 0x00]],
  ])('%s', async (_, run) => {
    await edit((bytes) => {
      // The levels of the first page: one run of a hundred.
      const levels = bytes.indexOf(Buffer.from([0xc8, 0x01, 0x01]))
      bytes.set(run, levels)
      return bytes
    })
    await expect(rowsOf({ limitMs: 1000 })).rejects.toThrow(DataFileError)
  })
})
