import { isUtf8 } from 'node:buffer'

/** Line of a manifest with its position. */
export interface ManifestLine {
  /** From 1; empty lines count. */
  number: number
  /** First byte. */
  start: number
  /** Byte after its line end. */
  end: number
  /** Without the line feed; undefined when too long or not UTF-8. */
  text: string | undefined
  /** Reason why `text` is undefined. */
  unreadable?: 'too_long' | 'not_utf8'
}

export interface LineSplitterOptions {
  /** Number of the first line; default 1. */
  firstLine?: number
  /** Longer lines are skipped, bytes; default `maxLineBytes`. */
  maxBytes?: number
  /** As in `TextDecoder`, but true by default: otherwise invalid UTF-8 is replaced. */
  fatal?: boolean
  /** Reads a line that is not UTF-8; default: none can be. */
  decodeOther?(bytes: Buffer): string | undefined
}

/** Maximum bytes of a batch line: a base64 image and its fields. */
export const maxLineBytes = 32 * 1024 * 1024

const lineFeed = 10

/** What JSON has in its strings and others take for the end of a line: NEL, and the separators of lines and paragraphs. */
const otherLineEnds = /[\u0085\u2028\u2029]/g

/** A value as one line of JSON, without its line feed, in which no reader finds another end of a line. */
export const jsonLine = (value: unknown): string =>
  JSON.stringify(value).replace(
    otherLineEnds,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

/**
 * Splits a stream of bytes into lines, at line feeds only: `node:readline` also splits at U+2028, which is allowed
 * inside a JSON string. Buffers only the unfinished line.
 *
 * @example
 * const splitter = new LineSplitter()
 * for await (const chunk of bytes) for (const line of splitter.push(chunk)) use(line)
 * for (const line of splitter.end()) use(line)
 */
export class LineSplitter {
  readonly #maxBytes: number
  readonly #fatal: boolean
  readonly #decodeOther: LineSplitterOptions['decodeOther']
  #number: number
  /** Start of the unfinished line. */
  #start = 0
  /** Bytes of the unfinished line: seen, and buffered. */
  #seen = 0
  #kept: Uint8Array[] = []

  constructor(options: LineSplitterOptions = {}) {
    const { firstLine = 1, maxBytes = maxLineBytes, fatal = true } = options
    this.#number = firstLine
    this.#maxBytes = maxBytes
    this.#fatal = fatal
    this.#decodeOther = options.decodeOther
  }

  /** Returns the lines that end in this chunk. */
  push(chunk: Uint8Array): ManifestLine[] {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const valid = isUtf8(bytes)
    const lines: ManifestLine[] = []
    let from = 0
    for (let at = bytes.indexOf(lineFeed); at !== -1; at = bytes.indexOf(lineFeed, from)) {
      lines.push(this.#finish(bytes.subarray(from, at), 1, valid))
      from = at + 1
    }
    if (from < bytes.length) this.#keep(bytes.subarray(from))
    return lines
  }

  /** Returns the last line if it has no line end. */
  end(): ManifestLine[] {
    return this.#seen === 0 ? [] : [this.#finish(Buffer.alloc(0), 0, false)]
  }

  #keep(part: Buffer): void {
    this.#seen += part.length
    if (this.#seen > this.#maxBytes) this.#kept = []
    // A copy: its chunk can be much larger.
    else this.#kept.push(Buffer.from(part))
  }

  /** @param valid whether `last` is known to be UTF-8 */
  #finish(last: Buffer, lineEndBytes: number, valid: boolean): ManifestLine {
    const length = this.#seen + last.length
    const start = this.#start
    const number = this.#number++
    this.#start = start + length + lineEndBytes
    const place = { number, start, end: this.#start }
    if (length > this.#maxBytes) {
      this.#reset()
      return { ...place, text: undefined, unreadable: 'too_long' }
    }
    const whole = this.#seen === 0
    const bytes = whole ? last : Buffer.concat([...this.#kept, last])
    this.#reset()
    if (!this.#fatal || (whole && valid) || isUtf8(bytes)) return { ...place, text: bytes.toString('utf8') }
    const text = this.#decodeOther?.(bytes)
    return text === undefined ? { ...place, text, unreadable: 'not_utf8' } : { ...place, text }
  }

  #reset(): void {
    this.#seen = 0
    this.#kept = []
  }
}

/**
 * Reads the lines of a stream of bytes, chunk by chunk.
 * @example for await (const lines of readLines(readSlices(job.slices, stores), { firstLine: job.firstLine }))
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  options: LineSplitterOptions = {},
): AsyncGenerator<ManifestLine[]> {
  const splitter = new LineSplitter(options)
  for await (const chunk of chunks) yield splitter.push(chunk)
  yield splitter.end()
}
