/** Undoes one encoding of a body. Ending it early ends its source. */
export type Decoder = (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>

/** By the names that `Content-Encoding` has (RFC 9110, 8.4.1): those that a platform can undo. */
export type Decoders = Readonly<Record<string, Decoder>>

/** Encodings of one body at most. */
const maxEncodings = 2

const aliases: Record<string, string> = { 'x-gzip': 'gzip' }
/** `aws-chunked` is how an SDK sent an object, not how it is stored. */
const isNothing = (encoding: string) => ['', 'identity', 'aws-chunked'].includes(encoding)

/** Encodings that a header names, in the order in which they were applied. */
export const encodingsOf = (header: string | null | undefined): string[] =>
  (header ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => !isNothing(name))
    .map((name) => aliases[name] ?? name)

/** An encoding that cannot be undone here, in a message; undefined if all can. */
export function unsupportedEncoding(encodings: string[], decoders: Decoders): string | undefined {
  if (encodings.length > maxEncodings) return encodings.slice(0, maxEncodings + 1).join(', ')
  return encodings.find((name) => !Object.hasOwn(decoders, name))
}

/**
 * Undoes the encodings of a body, all of them supported. It is decoded as it is read: whoever reads bounds the bytes.
 * @example for await (const chunk of decoded(chunks, encodingsOf('gzip'), nodeDecoders)) size += chunk.byteLength
 */
export const decoded = (
  chunks: AsyncIterable<Uint8Array>,
  encodings: string[],
  decoders: Decoders,
): AsyncIterable<Uint8Array> => encodings.reduceRight((body, name) => decoders[name]!(body), chunks)

/** Recognises errors of the decoders of all platforms. */
export const isDecodingError = (error: unknown): boolean =>
  error instanceof Error &&
  (('code' in error && /^(Z_|ZSTD_|ERR__|ERR_BROTLI|ERR_ZSTD)/.test(String(error.code))) ||
    (error instanceof TypeError && /decompress|incorrect header|compressed/i.test(error.message)))

/** The first two bytes of a body, and the whole of it; `return` of that ends the source. */
export async function peeked(
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ head: Uint8Array; whole: AsyncIterableIterator<Uint8Array> }> {
  const source = chunks[Symbol.asyncIterator]()
  const first: Uint8Array[] = []
  let size = 0
  while (size < 2) {
    const { done, value } = await source.next()
    if (done) break
    first.push(value)
    size += value.byteLength
  }
  const head = Uint8Array.from(first.flatMap((chunk) => [...chunk.subarray(0, 2)]))
  const whole: AsyncIterableIterator<Uint8Array> = {
    next: async () => (first.length > 0 ? { done: false, value: first.shift()! } : source.next()),
    async return() {
      await source.return?.()
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => whole,
  }
  return { head, whole }
}

/** Checks for zlib's header (RFC 1950); much of what calls itself `deflate` has none. */
export const isZlib = ([first = 0, second = 0]: Uint8Array) =>
  (first & 0x0f) === 8 && (first * 256 + second) % 31 === 0
