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

/** How the rows of a table become lines. */
export interface TableReading {
  /** Columns, as their header has them, in the place of those that are known by their names. */
  image?: string
  customId?: string
  prompt?: string
  /** Each line also has all cells of its row by the names of their columns, under this field. */
  keptAs?: string
}

const otherColumns = ['custom_id', 'prompt', 'model'] as const

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
  table: TableReading = {},
): AsyncGenerator<Uint8Array> {
  const text = encoding === 'utf-8' ? bytes : decoded(bytes, encoding)
  if (form === 'array') yield* itemLines(text, 1)
  else if (form === 'objects') yield* itemLines(text, 0)
  else if (form === 'return_lines') yield* linesEndedBy(text, carriageReturn)
  else if (form === 'zero_lines') yield* linesEndedBy(text, 0)
  else if (form === 'table') yield* tableLines(text, table)
  else yield* text
}

/**
 * Rewrites a list of any shape as lines, by its first bytes.
 * @throws ListFileError as `listLines`, and for what is no list
 */
export async function* readList(
  bytes: AsyncIterable<Uint8Array>,
  name: string,
  table?: TableReading,
): AsyncGenerator<Uint8Array> {
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
  yield* listLines(all(), listShape(head.subarray(0, longHeadBytes), name), table)
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

async function* tableLines(
  chunks: AsyncIterable<Uint8Array>,
  table: TableReading,
): AsyncGenerator<Uint8Array> {
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
      const isHeader = columns === undefined && isTableHeader(record, table)
      columns ??= isHeader ? namedColumns(record, table) : guessedColumns(record)
      yield Buffer.from(`${blank}${isHeader ? '' : rowLine(record, columns, table.keptAs)}\n`)
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

/** Fields of a line by the number of their column, and the names of all columns where there is a header. */
interface Columns {
  fields: Map<number, string>
  header?: readonly string[]
}

const isTableHeader = (record: readonly string[], { image }: TableReading) =>
  image !== undefined || record.some((cell) => isImageField(columnName(cell)))

/**
 * The first column that can be the image is, unless one is named; others of its kind are left out, as are unknown ones.
 * @throws ListFileError for a named column that is not there
 */
function namedColumns(header: readonly string[], { image, customId, prompt }: TableReading): Columns {
  const names = header.map(columnName)
  const columnOf = (name: string) => {
    const column = header.findIndex((cell) => cell.trim() === name)
    if (column >= 0) return column
    throw new ListFileError(`The table has no column ${name}. It has ${header.join(', ')}.`)
  }
  const asked = { custom_id: customId, prompt, model: undefined }
  const fields = new Map<number, string>()
  for (const name of otherColumns) {
    const column = asked[name] === undefined ? names.indexOf(name) : columnOf(asked[name])
    if (column >= 0) fields.set(column, name)
  }
  const column = image === undefined ? names.findIndex((name) => isImageField(name)) : columnOf(image)
  return {
    fields: new Map([[column, 'image'], ...[...fields].filter(([other]) => other !== column)]),
    header: unique(header),
  }
}

/** A name that comes again has a number behind it. */
function unique(header: readonly string[]): string[] {
  const seen = new Map<string, number>()
  return header.map((cell) => {
    const name = cell.trim()
    const times = (seen.get(name) ?? 0) + 1
    seen.set(name, times)
    return times === 1 ? name : `${name}_${times}`
  })
}

/** Without a header: the first cell that looks like an address or a file. */
function guessedColumns(row: readonly string[]): Columns {
  const isImage = (cell: string) => /^[a-z][a-z0-9+.-]*:/i.test(cell) || kindOfName(cell.trim()) === 'image'
  return { fields: new Map([[Math.max(row.findIndex(isImage), 0), 'image']]) }
}

function rowLine(row: readonly string[], { fields, header }: Columns, keptAs: string | undefined): string {
  const entries = [...fields].flatMap(([column, name]): [string, unknown][] => {
    const cell = row[column]?.trim() ?? ''
    return cell === '' && name !== 'image' ? [] : [[name, cell]]
  })
  if (keptAs !== undefined && header)
    entries.push([keptAs, Object.fromEntries(header.map((name, column) => [name, row[column] ?? '']))])
  return JSON.stringify(Object.fromEntries(entries))
}
