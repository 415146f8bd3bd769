import { isUtf8 } from 'node:buffer'

/** A line of a manifest and where it lies. */
export interface ManifestLine {
  /** From 1; empty lines count. */
  number: number
  /** First byte. */
  start: number
  /** Byte behind its line end. */
  end: number
  /** Without the line feed; undefined when it is too long or not in UTF-8. */
  text: string | undefined
  /** Why there is no text. */
  unreadable?: 'too_long' | 'not_utf8'
}

export interface LineSplitterOptions {
  /** Number of the first line; default 1. */
  firstLine?: number
  /** Longer lines are skipped to their end, bytes; default `maxLineBytes`. */
  maxBytes?: number
  /** As of `TextDecoder`, but true by default: without it what is not UTF-8 is replaced. */
  fatal?: boolean
}

/** Bytes of a batch's line at most: an image in base64 and what is around it. */
export const maxLineBytes = 32 * 1024 * 1024

const lineFeed = 10

/**
 * Cuts a stream of bytes into lines, at line feeds alone: `node:readline` also splits at U+2028, which may stand
 * inside a JSON string. Holds no more than the line that is not finished yet.
 *
 * @example
 * const splitter = new LineSplitter()
 * for await (const chunk of bytes) for (const line of splitter.push(chunk)) use(line)
 * for (const line of splitter.end()) use(line)
 */
export class LineSplitter {
  readonly #maxBytes: number
  readonly #fatal: boolean
  #number: number
  /** Where the unfinished line starts. */
  #start = 0
  /** Bytes of the unfinished line that were seen, and those of them that are kept. */
  #seen = 0
  #kept: Uint8Array[] = []

  constructor(options: LineSplitterOptions = {}) {
    const { firstLine = 1, maxBytes = maxLineBytes, fatal = true } = options
    this.#number = firstLine
    this.#maxBytes = maxBytes
    this.#fatal = fatal
  }

  /** The lines that end in this chunk. */
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

  /** The last line, where nothing ends it. */
  end(): ManifestLine[] {
    return this.#seen === 0 ? [] : [this.#finish(Buffer.alloc(0), 0, false)]
  }

  #keep(part: Buffer): void {
    this.#seen += part.length
    if (this.#seen > this.#maxBytes) this.#kept = []
    // A copy: the chunk that it is a part of can be much larger.
    else this.#kept.push(Buffer.from(part))
  }

  /** @param valid whether the bytes are known to be UTF-8 where the whole line lies in them */
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
    return { ...place, text: undefined, unreadable: 'not_utf8' }
  }

  #reset(): void {
    this.#seen = 0
    this.#kept = []
  }
}

/**
 * The lines of a stream of bytes, as many at a time as a chunk ends.
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
