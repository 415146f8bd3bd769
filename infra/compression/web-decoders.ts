import { type Decoder, type Decoders, isZlib, peeked } from './content-encoding.ts'

const through = (format: 'gzip' | 'deflate' | 'deflate-raw'): Decoder =>
  async function* (chunks) {
    const source = ReadableStream.from(chunks) as ReadableStream<Uint8Array<ArrayBuffer>>
    yield* source.pipeThrough(new DecompressionStream(format))
  }

/** What every platform can undo. */
export const webDecoders: Decoders = {
  gzip: through('gzip'),
  async *deflate(chunks) {
    const { head, whole } = await peeked(chunks)
    yield* through(isZlib(head) ? 'deflate' : 'deflate-raw')(whole)
  },
}
