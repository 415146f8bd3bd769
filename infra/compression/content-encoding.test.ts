import * as zlib from 'node:zlib'
import { describe, expect, test } from 'vitest'
import {
  type Decoders,
  decoded,
  encodingsOf,
  isDecodingError,
  unsupportedEncoding,
} from './content-encoding.ts'
import { nodeDecoders } from './node-decoders.ts'
import { webDecoders } from './web-decoders.ts'

const bytes = Buffer.from('some bytes that are worth compressing '.repeat(2000))

/** In pieces, as a network brings them; `ended` tells that nobody reads on. */
function arriving(body: Uint8Array, pieceBytes = 100) {
  const state = { ended: false, taken: 0 }
  async function* pieces() {
    try {
      for (let at = 0; at < body.length; at += pieceBytes) {
        state.taken++
        yield body.subarray(at, at + pieceBytes)
      }
    } finally {
      state.ended = true
    }
  }
  return { chunks: pieces(), state }
}

async function undone(body: Uint8Array, header: string, decoders: Decoders, pieceBytes?: number) {
  const parts: Uint8Array[] = []
  for await (const part of decoded(arriving(body, pieceBytes).chunks, encodingsOf(header), decoders))
    parts.push(part)
  return Buffer.concat(parts)
}

const encoders: [string, (body: Uint8Array) => Buffer][] = [
  ['gzip', zlib.gzipSync],
  ['x-gzip', zlib.gzipSync],
  [' GZIP ', zlib.gzipSync],
  ['deflate', zlib.deflateSync],
  ['deflate', zlib.deflateRawSync],
  ['br', zlib.brotliCompressSync],
  ['zstd', zlib.zstdCompressSync],
  ['identity', (body) => Buffer.from(body)],
  ['', (body) => Buffer.from(body)],
  ['aws-chunked', (body) => Buffer.from(body)],
  ['aws-chunked,gzip', zlib.gzipSync],
  ['gzip, br', (body) => zlib.brotliCompressSync(zlib.gzipSync(body))],
]

describe.each([
  ['Node', nodeDecoders],
  ['any platform', webDecoders],
])('on %s', (_, decoders) => {
  const possible = encoders.filter(([header]) => !unsupportedEncoding(encodingsOf(header), decoders))

  test.each(possible)('%j is undone, in whatever pieces it comes', async (header, encode) => {
    for (const pieceBytes of [1, 100, 1e6])
      expect((await undone(encode(bytes), header, decoders, pieceBytes)).equals(bytes)).toBe(true)
  })

  test.each(possible.filter(([header]) => encodingsOf(header).length > 0))(
    'damaged %j is recognised',
    async (header, encode) => {
      const damaged = encode(bytes).map((byte, i) => (i > 4 ? byte ^ 0x55 : byte))
      for (const body of [damaged, new Uint8Array([0xff, 0xff, 0xff, 0xff])]) {
        const error = await undone(body, header, decoders).then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect([error, isDecodingError(error)]).toEqual([expect.anything(), true])
      }
    },
  )

  test('ends its source when nobody reads on: a bomb is decoded as far as it is wanted', async () => {
    const { chunks, state } = arriving(zlib.gzipSync(new Uint8Array(200e6)), 1000)
    let size = 0
    for await (const part of decoded(chunks, ['gzip'], decoders)) {
      size += part.byteLength
      if (size > 1e6) break
    }
    await expect.poll(() => state.ended).toBe(true)
    expect(size).toBeLessThan(5e6)
    if (decoders === nodeDecoders) expect(state.taken).toBeLessThan(100)
  })

  test('a source that fails says why', async () => {
    async function* failing() {
      yield zlib.gzipSync(bytes).subarray(0, 20)
      throw new RangeError('the sender is too slow')
    }
    const read = async () => {
      for await (const _ of decoded(failing(), ['gzip'], decoders));
    }
    await expect(read()).rejects.toThrow('the sender is too slow')
  })
})

test.each([
  ['gzip', undefined],
  ['br', 'br'],
  ['zstd', 'zstd'],
  ['compress', 'compress'],
  ['toString', 'tostring'],
  ['gzip, gzip, gzip', 'gzip, gzip, gzip'],
])('%j names what no platform must undo: %j', (header, expected) => {
  expect(unsupportedEncoding(encodingsOf(header), webDecoders)).toBe(expected)
})
