import { Readable } from 'node:stream'
import { parse as parseTable, type Options as TableOptions } from 'csv-parse'
import { BaseError } from '../../../infra/errors.ts'
import { kindOfName } from '../formats/file-kind.ts'
import { type FileFormat, formatOf } from '../formats/formats.ts'
import { isImageField } from './image-fields.ts'

/**
 * How a list of images is written: a line for each, ended by line feeds or, as of old editors, by carriage returns alone; an
 * array of JSON; objects of JSON over several lines each; or a table as of a spreadsheet.
 */
export interface ListShape {
  form: 'lines' | 'return_lines' | 'array' | 'objects' | 'table'
  encoding: 'utf-8' | 'utf-16le' | 'utf-16be'
}

/** A file that is no list, or breaks off in a way that hides what follows; the message names what it is, or the line. */
export class ListFileError extends BaseError {}

/** First bytes of a list from which its shape is told. */
export const listHeadBytes = 4096
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
  const text = new TextDecoder(encoding).decode(head).trimStart()
  return { encoding, form: formOf(text, name) }
}

/** Lines in UTF-8 are read as they are. */
export const isPlainList = ({ form, encoding }: ListShape) => form === 'lines' && encoding === 'utf-8'

/**
 * By the byte order mark. Without one, UTF-16 has a zero beside each character of ASCII, and even lists in other scripts
 * have runs of them, as `.jpg`. Zeros between names, or left by a power failure, do not alternate with other bytes.
 */
function encodingOf(head: Uint8Array): ListShape['encoding'] {
  const [first, second] = head
  if (first === 0xff && second === 0xfe) return 'utf-16le'
  if (first === 0xfe && second === 0xff) return 'utf-16be'
  const [even, odd] = alternatingZeros(head)
  const least = Math.max(2, head.length / 32)
  if (odd >= 3 * even + least) return 'utf-16le'
  return even >= 3 * odd + least ? 'utf-16be' : 'utf-8'
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
  const lines = /^[^\n]*\r[^\n]+$/.test(text) ? 'return_lines' : 'lines'
  if (/^\[\s*(?:["{\]]|$)/.test(text)) return 'array'
  if (/^\{[ \t]*\r?\n/.test(text)) return 'objects'
  if (text.startsWith('{')) return lines
  if (/\.(?:csv|tsv)$/i.test(name)) return 'table'
  const cells = text.split(/\r?\n|\r/, 1)[0]!.split(/[,;\t]/)
  const isHeader = cells.length > 1 && cells.some((cell) => isImageField(columnName(cell)))
  return isHeader && cells.every((cell) => /^"?[\w ]*"?$/.test(cell.trim())) ? 'table' : lines
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
  else if (form === 'return_lines') yield* returnLines(text)
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
  while (head.length < listHeadBytes && !head.includes(lineFeed)) {
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
  yield* listLines(all(), listShape(head.subarray(0, listHeadBytes), name))
}

const remedyFor = ({ decoded: isDecoded, note }: FileFormat) =>
  note === undefined || isDecoded ? ' A list has a line for each picture.' : ` ${note}`

async function* decoded(bytes: AsyncIterable<Uint8Array>, encoding: string): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder(encoding)
  for await (const chunk of bytes) yield Buffer.from(decoder.decode(chunk, { stream: true }))
  yield Buffer.from(decoder.decode())
}

async function* returnLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks)
    yield Buffer.from(chunk).map((byte) => (byte === carriageReturn ? lineFeed : byte))
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
