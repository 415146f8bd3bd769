import { joinBytes } from '../join-bytes.ts'
import { largeCharacters, nextTurn } from '../timing.ts'
import { imageFaults } from './faults.ts'
import { beginsAsImage } from './image-address.ts'

const invalid = (problem: string) =>
  imageFaults.invalid(`${problem} Send "data:image/jpeg;base64,..." with the image's bytes in base64.`)

/** The media type and its parameters; what comes before the comma is not searched any further. */
const maxHeadCharacters = 256

/**
 * The bytes in a `data:` URL (RFC 2397) of an image, in base64 or percent-encoded. What clients really send is understood:
 * lines that are wrapped, base64's alphabet for URLs, missing padding, percent signs in base64, `;base64` in capitals or
 * missing, any media type or none: the bytes say what they are; spaces where a form has decoded each `+`. Long ones are decoded in several turns of the event loop.
 * @param maxBytes of the image
 * @throws ImageError `image_url_invalid` when it is malformed; `image_url_too_large`
 */
export async function decodeDataUrl(url: string, maxBytes = Number.POSITIVE_INFINITY): Promise<Uint8Array> {
  const steps = decoding(url, maxBytes)
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
    await nextTurn()
  }
}

/** As `decodeDataUrl`, in one turn. */
export function decodeDataUrlNow(url: string): Uint8Array {
  const steps = decoding(url, Number.POSITIVE_INFINITY)
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

/** Characters decoded in one turn. */
const stepCharacters = largeCharacters

/** Decodes step by step; whoever runs it may do something else between two of them. */
function* decoding(url: string, maxBytes: number): Generator<void, Uint8Array> {
  const comma = url.slice(0, maxHeadCharacters).indexOf(',')
  if (comma < 0) throw invalid('The data URL has no comma after its media type.')
  const data = url.slice(comma + 1)
  // Some clients put a second prefix before what has one.
  if (/^\s*data:[^,]{0,200},/i.test(data.slice(0, maxHeadCharacters)))
    return yield* decoding(data.trimStart(), maxBytes)
  const [, ...parameters] = url.slice(0, comma).toLowerCase().split(';')
  const isBase64 = parameters.some((parameter) => parameter.trim() === 'base64')
  return yield* isBase64 || beginsAsImage(data)
    ? decodingBase64(data, maxBytes)
    : decodingText(data, maxBytes)
}

function* decodingBase64(data: string, maxBytes: number): Generator<void, Uint8Array> {
  const lostPlus = hasLostPlus(data)
  const text = lostPlus ? data.trim() : data
  const bytes = Buffer.allocUnsafeSlow(Math.min(Math.ceil((text.length * 3) / 4), maxBytes))
  let size = 0
  const append = (base64: string) => {
    const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0
    const characters = base64.length - padding
    const count = Math.floor((characters * 3) / 4)
    if (size + count > maxBytes) throw imageFaults.tooLarge(maxBytes)
    // `Buffer` takes a tenth of the time of `atob`, but leaves foreign characters out, and takes those beyond Latin-1
    // for others.
    const isBase64 = characters % 4 !== 1 && Buffer.byteLength(base64) === base64.length
    if (!isBase64 || bytes.write(base64, size, 'base64') !== count) throw notBase64(text)
    size += count
  }
  let left = ''
  for (let at = 0; at < text.length; at += stepCharacters) {
    if (at > 0) yield
    const part = left + text.slice(at, at + stepCharacters)
    const isLast = at + stepCharacters >= text.length
    const [whole, cut] = isLast ? [part, ''] : beforeEscape(part)
    const unescaped = whole.includes('%') ? percentDecoded(whole).toString('latin1') : whole
    const base64 = lostPlus ? unescaped.replaceAll(' ', '+') : withoutSpace(unescaped)
    // The padding is at the end of all, so the last group of four stays until then.
    const end = isLast ? base64.length : Math.max(0, 4 * Math.floor((base64.length - 4) / 4))
    append(base64.slice(0, end))
    left = base64.slice(end) + cut
  }
  return new Uint8Array(bytes.buffer, 0, size)
}

/** Enough to see whether lines are wrapped, at least and at most; the least is less than any image has. */
const sample = { least: 64, most: 10_000 }

/**
 * Whether a form or a query has decoded each `+` to a space: then there is none left, and the spaces do not stand at equal
 * distances, as those between wrapped lines do. Left out, they would leave another picture.
 */
function hasLostPlus(text: string): boolean {
  if (
    text.length < sample.least ||
    !text.includes(' ') ||
    ['+', '-', '%', '\n', '\r', '\t'].some((other) => text.includes(other))
  )
    return false
  const lines = text.slice(0, sample.most).trim().split(' ')
  const width = lines[0]!.length
  return lines.some((line, index) => (index < lines.length - 1 ? line.length !== width : line.length > width))
}

function* decodingText(text: string, maxBytes: number): Generator<void, Uint8Array> {
  const parts: Uint8Array[] = []
  let size = 0
  let left = ''
  for (let at = 0; at < text.length; at += stepCharacters) {
    if (at > 0) yield
    const part = left + text.slice(at, at + stepCharacters)
    const [whole, cut] = at + stepCharacters < text.length ? beforeEscape(part) : [part, '']
    const bytes = percentDecoded(whole)
    size += bytes.length
    if (size > maxBytes) throw imageFaults.tooLarge(maxBytes)
    parts.push(bytes)
    left = cut
  }
  return joinBytes(parts, size)
}

/** Splits a text before an escape that its end cuts off. */
function beforeEscape(text: string): [whole: string, cut: string] {
  const percent = text.indexOf('%', text.length - 2)
  return percent < 0 ? [text, ''] : [text.slice(0, percent), text.slice(percent)]
}

const percent = 0x25

function percentDecoded(text: string): Buffer {
  const bytes = Buffer.from(text)
  let kept = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!
    const value = byte === percent ? 16 * hexDigit(bytes[at + 1]) + hexDigit(bytes[at + 2]) : Number.NaN
    bytes[kept++] = Number.isNaN(value) ? byte : value
    if (!Number.isNaN(value)) at += 2
  }
  return bytes.subarray(0, kept)
}

function hexDigit(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : Number.NaN
}

const spaces = [' ', '\n', '\r', '\t', '\f', '\v']
const isSpace = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

/** By bytes and by index: a regular expression, or an iterator, takes ten times as long for megabytes of spaces. */
function withoutSpace(text: string): string {
  if (!spaces.some((space) => text.includes(space))) return text
  const bytes = Buffer.from(text)
  let kept = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!
    if (!isSpace(byte)) bytes[kept++] = byte
  }
  // What is not ASCII stays foreign to base64.
  return bytes.toString('latin1', 0, kept)
}

const notBase64 = (text: string) =>
  invalid(
    /^\s*b['"]/.test(text.slice(0, 16))
      ? `The data URL holds Python's text for bytes, b'...'. Decode it before: base64.b64encode(image).decode().`
      : 'The data URL has characters that are not base64, or is cut off.',
  )
