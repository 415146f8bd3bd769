import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readSafetensorsHeader, SafetensorsError, type TensorData, writeSafetensors } from './safetensors.ts'

let folder: string
let file: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
  file = join(folder, 'some.safetensors')
})
afterAll(() => rm(folder, { recursive: true }))

/** A file with this header, `dataBytes` bytes of data, and the header's length, or another, before it. */
function fileOf(header: string, dataBytes: number, headerBytes?: bigint): Uint8Array {
  const json = new TextEncoder().encode(header)
  const bytes = new Uint8Array(8 + json.length + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, headerBytes ?? BigInt(json.length), true)
  bytes.set(json, 8)
  return bytes
}

const read = async (bytes: Uint8Array) => {
  await writeFile(file, bytes)
  return readSafetensorsHeader(file)
}

describe('readSafetensorsHeader', () => {
  it('says where every tensor lies, from the start of the file', async () => {
    const header = JSON.stringify({
      __metadata__: { format: 'pt' },
      bias: { dtype: 'F32', shape: [2], data_offsets: [12, 20] },
      weight: { dtype: 'F16', shape: [2, 3], data_offsets: [0, 12] },
    })
    expect([...(await read(fileOf(header, 20)))]).toEqual([
      ['bias', { type: 'F32', shape: [2], offset: 8 + header.length + 12, length: 8 }],
      ['weight', { type: 'F16', shape: [2, 3], offset: 8 + header.length, length: 12 }],
    ])
  })

  it('takes scalars, empty tensors and files without tensors', async () => {
    const header = JSON.stringify({
      scalar: { dtype: 'I64', shape: [], data_offsets: [0, 8] },
      empty: { dtype: 'F32', shape: [0, 4], data_offsets: [0, 0] },
    })
    const tensors = await read(fileOf(header, 8))
    expect(tensors.get('scalar')).toMatchObject({ shape: [], length: 8 })
    expect(tensors.get('empty')).toMatchObject({ shape: [0, 4], length: 0 })
    expect((await read(fileOf('{}', 0))).size).toBe(0)
  })

  const entry = (fields: object) =>
    JSON.stringify({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...fields } })
  const pair = (second: [number, number]) =>
    JSON.stringify({
      a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] },
      b: { dtype: 'F32', shape: [2], data_offsets: second },
    })

  it.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /is no safetensors file, or it is cut short/],
    ['seven bytes', new Uint8Array(7), /is no safetensors file/],
    ['a header of no length', fileOf('', 100), /is no safetensors file/],
    ['a header that is cut short', fileOf('{}', 0, 3n), /is no safetensors file/],
    ['a header longer than any memory', fileOf('{}', 8, 2n ** 64n - 1n), /is no safetensors file/],
    ['a header that is no JSON', fileOf('{"a": ', 8), /header of .* is not JSON/],
    ['a header that is a list', fileOf('[1, 2]', 8), /header of .* lists no tensors/],
    ['a header that is null', fileOf('null', 8), /header of .* lists no tensors/],
    ['a tensor that is a number', fileOf('{"a": 1}', 8), /tensor a lacks a dtype/],
    ['a tensor without a shape', fileOf(entry({ shape: undefined }), 8), /tensor a lacks .* a shape/],
    ['a negative size', fileOf(entry({ shape: [-2], data_offsets: [8, 0] }), 8), /tensor a lacks/],
    ['a negative offset', fileOf(entry({ data_offsets: [-8, 0] }), 8), /tensor a lacks/],
    ['one offset', fileOf(entry({ data_offsets: [8] }), 8), /tensor a lacks/],
    ['an unknown type', fileOf(entry({ dtype: 'F4' }), 8), /tensor a has the unknown type F4/],
    ['a name of Object', fileOf(entry({ dtype: 'constructor' }), 8), /unknown type constructor/],
    [
      'a shape that does not fit',
      fileOf(entry({ shape: [3] }), 8),
      /tensor a F32 \[3\] has 8 bytes instead of 12/,
    ],
    ['data that is cut short', fileOf(entry({}), 7), /tensor a is cut short. Fetch the file again/],
    ['tensors that overlap', fileOf(pair([4, 12]), 12), /tensor b overlaps another/],
    ['tensors at the same place', fileOf(pair([0, 8]), 12), /tensor b overlaps another/],
  ])('refuses %s', async (_, bytes, message) => {
    const error = await read(bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(SafetensorsError)
    expect((error as SafetensorsError).retriable).toBe(false)
    expect((error as SafetensorsError).message).toMatch(message)
  })

  it('answers any bytes with tensors or a SafetensorsError', async () => {
    const header = fc.oneof(fc.json(), fc.string(), fc.constant(entry({})))
    await fc.assert(
      fc.asyncProperty(header, fc.option(fc.bigInt(0n, 2n ** 64n - 1n)), async (text, length) => {
        const result = await read(fileOf(text, 8, length ?? undefined)).catch((thrown: unknown) => thrown)
        expect(result instanceof Map || result instanceof SafetensorsError).toBe(true)
      }),
      { numRuns: 50 },
    )
  })
})

describe('writeSafetensors', () => {
  const tensors: Record<string, TensorData> = {
    pixels: { type: 'U8', shape: [1, 3], data: Uint8Array.of(1, 2, 3) },
    tokens: { type: 'F32', shape: [2, 2], data: Float32Array.of(0.5, -1, 2, 4) },
    ids: { type: 'I64', shape: [2], data: BigInt64Array.of(-7n, 7n) },
    'name with "quotes" and é': { type: 'F16', shape: [], data: Float16Array.of(1.5) },
  }

  it('writes what the reader finds, every tensor aligned to its elements', async () => {
    await writeSafetensors(file, tensors)
    const bytes = await readFile(file)
    const header = await readSafetensorsHeader(file)
    expect([...header.keys()].sort()).toEqual(Object.keys(tensors).sort())
    for (const [name, { type, shape, data }] of Object.entries(tensors)) {
      const at = header.get(name)!
      expect(at).toMatchObject({ type, shape, length: data.byteLength })
      expect(bytes.subarray(at.offset, at.offset + at.length)).toEqual(
        Buffer.from(data.buffer, data.byteOffset, data.byteLength),
      )
      expect(
        at.offset %
          (data.byteLength /
            Math.max(
              1,
              shape.reduce((a, b) => a * b, 1),
            )),
      ).toBe(0)
    }
    const end = Math.max(...[...header.values()].map(({ offset, length }) => offset + length))
    expect(bytes.length).toBe(end)
  })

  it('takes a view into a larger buffer', async () => {
    const data = Float32Array.of(9, 1, 2, 9).subarray(1, 3)
    await writeSafetensors(file, { a: { type: 'F32', shape: [2], data } })
    const bytes = await readFile(file)
    const { offset, length } = (await readSafetensorsHeader(file)).get('a')!
    expect(
      new Float32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + length)),
    ).toEqual(Float32Array.of(1, 2))
  })
})
