import { pipeline, Readable, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { type Decoder, type Decoders, isZlib, peeked } from './content-encoding.ts'

const through = (create: () => Transform): Decoder =>
  async function* (chunks) {
    const decoder = create()
    // A failure of either side ends both; whoever reads gets it.
    pipeline(Readable.from(chunks, { objectMode: true }), decoder, () => {})
    yield* decoder as AsyncIterable<Buffer>
  }

/** What Node can undo: all that browsers do; `zstd` from 22.15 on. */
export const nodeDecoders: Decoders = {
  gzip: through(() => zlib.createGunzip()),
  async *deflate(chunks) {
    const { head, whole } = await peeked(chunks)
    yield* through(() => (isZlib(head) ? zlib.createInflate() : zlib.createInflateRaw()))(whole)
  },
  br: through(() => zlib.createBrotliDecompress()),
  ...('createZstdDecompress' in zlib && { zstd: through(() => zlib.createZstdDecompress()) }),
}
