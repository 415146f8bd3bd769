import { Readable } from 'node:stream'
import { parse as parseTable, type Options as TableOptions } from 'csv-parse'
import { BaseError } from '../../../infra/errors.ts'
import { kindOfName } from '../formats/file-kind.ts'
import { type FileFormat, formatOf } from '../formats/formats.ts'
import { isImageField } from './image-fields.ts'

/**
 * How a list of images is written: a line for each, ended by line feeds or, as of old editors, by carriage returns alone, or, as of
 * `find -print0`, by zeros; an array of JSON; objects of JSON over several lines each; or a table as of a spreadsheet.
 */
export interface ListShape {
  form: 'lines' | 'return_lines' | 'zero_lines' | 'array' | 'objects' | 'table'
  encoding: 'utf-8' | 'utf-16le' | 'utf-16be' | 'utf-32le' | 'utf-32be'
}

/** A file that is no list, or breaks off in a way that hides what follows; the message names what it is, or the line. */
export class ListFileError extends BaseError {}

/** First bytes of a list from which its shape is told. */
export const listHeadBytes = 4096
/** The same of a list whose first line is longer: an image as base64 may be in it. */
export const longHeadBytes = 1024 * 1024

/** Whether a list's first bytes have the end of its first line, and what is behind it. */
export const hasLineEnd = (head: Uint8Array): boolean =>
  head.includes(lineFeed) || head.subarray(0, -1).includes(carriageReturn)
/** Maximum characters of one row of a table: an image as base64 fits. */
const maxRowCharacters = 32 * 1024 * 1024

const otherColumns = new Set(['custom_id', 'prompt', 'model'])

const byteOf = (character: string) => character.charCodeAt(0)
const lineFeed = byteOf('\n')
const carriageReturn = byteOf('\r')
const space = byteOf(' ')
const comma = byteOf(',')
const quote = byteOf('"')
const backslash = byteOf('\\')
const opening = new Set(['[', '{'].map(byteOf))
const closing = new Set([']', '}'].map(byteOf))

/** Tells the shape of a list by its first bytes, and by its name where they do not tell. */
export function listShape(head: Uint8Array, name = ''): ListShape {
  const encoding = encodingOf(head)
  const text = textOf(head, encoding).trimStart()
  return { encoding, form: formOf(text, name) }
}

/** Lines in UTF-8 are read as they are. */
export const isPlainList = ({ form, encoding }: ListShape) => form === 'lines' && encoding === 'utf-8'

/**
 * By the byte order mark. Without one, UTF-32 has two zeros in every four bytes at least, UTF-16 has a zero beside each character of ASCII, and even lists in other scripts
 * have runs of them, as `.jpg`. Zeros between names, or left by a power failure, do not alternate with other bytes.
 */
function encodingOf(head: Uint8Array): ListShape['encoding'] {
  const wide = wideEncodingOf(head)
  if (wide) return wide
  const [first, second] = head
  if (first === 0xff && second === 0xfe) return 'utf-16le'
  if (first === 0xfe && second === 0xff) return 'utf-16be'
  const [even, odd] = alternatingZeros(head)
  const least = Math.max(2, head.length / 32)
  if (odd >= 3 * even + least) return 'utf-16le'
  return even >= 3 * odd + least ? 'utf-16be' : 'utf-8'
}

/** Each character takes four bytes, of which the highest two are zero in nearly all scripts. */
function wideEncodingOf(head: Uint8Array): ListShape['encoding'] | undefined {
  const whole = head.length - (head.length % 4)
  if (whole < 8) return undefined
  const zeros = [0, 0, 0, 0]
  for (let at = 0; at < whole; at++) if (head[at] === 0) zeros[at % 4]!++
  const [first, second, third, fourth] = zeros.map((count) => count / (whole / 4)) as [
    number,
    number,
    number,
    number,
  ]
  if (third > 0.9 && fourth > 0.9 && first < 0.1) return 'utf-32le'
  return first > 0.9 && second > 0.9 && fourth < 0.1 ? 'utf-32be' : undefined
}

/** Zeros with another two bytes before, and none between, at even and at odd places. */
function alternatingZeros(bytes: Uint8Array): [even: number, odd: number] {
  let even = 0
  let odd = 0
  bytes.forEach((byte, at) => {
    if (byte !== 0 || bytes[at - 1] === 0 || bytes[at - 2] !== 0) return
    if (at % 2 === 0) even++
    else odd++
  })
  return [even, odd]
}

function formOf(text: string, name: string): ListShape['form'] {
  const lines = linesIn(text)
  if (/^\[\s*(?:["{\]]|$)/.test(text)) return 'array'
  if (/^\{[ \t]*\r?\n/.test(text)) return 'objects'
  if (text.startsWith('{')) return lines
  if (/\.(?:csv|tsv)$/i.test(name)) return 'table'
  const cells = text.split(/\r?\n|\r/, 1)[0]!.split(/[,;\t]/)
  const isHeader = cells.length > 1 && cells.some((cell) => isImageField(columnName(cell)))
  return isHeader && cells.every((cell) => /^"?[\w ]*"?$/.test(cell.trim())) ? 'table' : lines
}

/** What ends the lines: zeros where there is nothing else, and never two of them, as a power failure leaves. */
function linesIn(text: string): 'lines' | 'return_lines' | 'zero_lines' {
  const end = text.search(/[\r\n]/)
  if (end < 0)
    return text.includes('\0') && !text.includes('\0\0') && !text.startsWith('\0') ? 'zero_lines' : 'lines'
  return text[end] === '\r' && end + 1 < text.length && text[end + 1] !== '\n' ? 'return_lines' : 'lines'
}

const columnName = (cell: string) =>
  cell
    .trim()
    .replaceAll('"', '')
    .replaceAll(/[\s-]+/g, '_')
    .toLowerCase()

/**
 * Rewrites a list as lines of UTF-8, one for each image: of a table `{"image": ..., "custom_id": ...}`, at the same line
 * where no row has several; of an array, and of objects, the nth item at the nth line.
 * @throws ListFileError for a table that cannot be read on
 */
export async function* listLines(
  bytes: AsyncIterable<Uint8Array>,
  { form, encoding }: ListShape,
): AsyncGenerator<Uint8Array> {
  const text = encoding === 'utf-8' ? bytes : decoded(bytes, encoding)
  if (form === 'array') yield* itemLines(text, 1)
  else if (form === 'objects') yield* itemLines(text, 0)
  else if (form === 'return_lines') yield* linesEndedBy(text, carriageReturn)
  else if (form === 'zero_lines') yield* linesEndedBy(text, 0)
  else if (form === 'table') yield* tableLines(text)
  else yield* text
}

/**
 * Rewrites a list of any shape as lines, by its first bytes.
 * @throws ListFileError as `listLines`, and for what is no list
 */
export async function* readList(bytes: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const chunks = bytes[Symbol.asyncIterator]()
  let head = Buffer.alloc(0)
  // Not longer than its first line: who writes the list may be waiting.
  while (head.length < longHeadBytes && !hasLineEnd(head)) {
    const { value, done } = await chunks.next()
    if (done) break
    head = Buffer.concat([head, value])
  }
  const format = formatOf(head)
  if (format) throw new ListFileError(`This is ${format.what}, not a list.${remedyFor(format)}`)
  async function* all(): AsyncGenerator<Uint8Array> {
    yield head
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  yield* listLines(all(), listShape(head, name))
}

const remedyFor = ({ decoded: isDecoded, note }: FileFormat) =>
  note === undefined || isDecoded ? ' A list has a line for each picture.' : ` ${note}`

async function* decoded(bytes: AsyncIterable<Uint8Array>, encoding: string): AsyncGenerator<Uint8Array> {
  if (encoding.startsWith('utf-32')) {
    yield* decodedWide(bytes, encoding)
    return
  }
  const decoder = new TextDecoder(encoding)
  for await (const chunk of bytes) yield Buffer.from(decoder.decode(chunk, { stream: true }))
  yield Buffer.from(decoder.decode())
}

/** No decoder of the platform knows UTF-32. */
async function* decodedWide(bytes: AsyncIterable<Uint8Array>, encoding: string): AsyncGenerator<Uint8Array> {
  let rest = Buffer.alloc(0)
  for await (const chunk of bytes) {
    const all = Buffer.concat([rest, chunk])
    const whole = all.length - (all.length % 4)
    yield Buffer.from(wideText(all.subarray(0, whole), encoding))
    rest = all.subarray(whole)
  }
}

function wideText(bytes: Uint8Array, encoding: string): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let text = ''
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const point = view.getUint32(at, encoding === 'utf-32le')
    // The mark of the byte order is no text.
    if (point !== 0xfeff) text += point < 0x110000 ? String.fromCodePoint(point) : '\uFFFD'
  }
  return text
}

const textOf = (bytes: Uint8Array, encoding: ListShape['encoding']) =>
  encoding.startsWith('utf-32') ? wideText(bytes, encoding) : new TextDecoder(encoding).decode(bytes)

async function* linesEndedBy(chunks: AsyncIterable<Uint8Array>, end: number): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) yield Buffer.from(chunk).map((byte) => (byte === end ? lineFeed : byte))
}

/**
 * Makes a line of each item: line ends between the tokens become spaces, and what separates the items line ends.
 * @param items depth of the items: 1 in an array, 0 without one
 */
async function* itemLines(chunks: AsyncIterable<Uint8Array>, items: 0 | 1): AsyncGenerator<Uint8Array> {
  let depth = 0
  let inString = false
  let escaped = false
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk)
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at]!
      if (inString) {
        if (escaped) escaped = false
        else if (byte === backslash) escaped = true
        else if (byte === quote) inString = false
      } else if (byte === quote) inString = true
      else if (byte === carriageReturn) bytes[at] = space
      else if (byte === lineFeed) bytes[at] = depth <= 0 && items === 0 ? lineFeed : space
      else if (byte === comma && depth === items) bytes[at] = lineFeed
      else if (opening.has(byte) && depth++ < items) bytes[at] = space
      else if (closing.has(byte) && --depth < items) bytes[at] = lineFeed
    }
    yield bytes
  }
}

const tableOptions: TableOptions = {
  bom: true,
  delimiter: [',', ';', '\t'],
  info: true,
  max_record_size: maxRowCharacters,
  relax_column_count: true,
  relax_quotes: true,
  skip_empty_lines: true,
}

async function* tableLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let columns: Columns | undefined
  let line = 0
  const rows = Readable.from(chunks).compose(parseTable(tableOptions))
  try {
    for await (const { record, info } of rows as AsyncIterable<{
      record: string[]
      info: { lines: number }
    }>) {
      // Keeps the numbers of the lines, of the header and of empty ones too.
      const blank = '\n'.repeat(Math.max(0, info.lines - line - 1))
      line = Math.max(line + 1, info.lines)
      const isHeader = columns === undefined && record.some((cell) => isImageField(columnName(cell)))
      columns ??= isHeader ? namedColumns(record) : new Map([[guessColumn(record), 'image']])
      yield Buffer.from(`${blank}${isHeader ? '' : rowLine(record, columns)}\n`)
    }
  } catch (error) {
    const { code } = error as { code?: unknown }
    if (typeof code !== 'string' || !code.startsWith('CSV_')) throw error
    throw new ListFileError(
      `The table cannot be read on from line ${line + 1}: ${(error as Error).message}.`,
      {
        cause: error,
      },
    )
  }
}

/** Fields of a line by the number of their column. */
type Columns = Map<number, string>

/** The first column that can be the image is; others of its kind are left out, as are unknown ones. */
function namedColumns(header: readonly string[]): Columns {
  const names = header.map(columnName)
  const image = names.findIndex((name) => isImageField(name))
  const others = names.flatMap((name, column): [number, string][] =>
    otherColumns.has(name) ? [[column, name]] : [],
  )
  return new Map([[image, 'image'], ...others])
}

/** Without a header: the first cell that looks like an address or a file. */
function guessColumn(row: readonly string[]): number {
  const isImage = (cell: string) => /^[a-z][a-z0-9+.-]*:/i.test(cell) || kindOfName(cell.trim()) === 'image'
  return Math.max(row.findIndex(isImage), 0)
}

const rowLine = (row: readonly string[], columns: Columns) =>
  JSON.stringify(
    Object.fromEntries(
      [...columns].flatMap(([column, name]) => {
        const cell = row[column]?.trim() ?? ''
        return cell === '' && name !== 'image' ? [] : [[name, cell]]
      }),
    ),
  )
