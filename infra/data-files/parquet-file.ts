import { type FileHandle, open } from 'node:fs/promises'
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetScan,
  parquetSchema,
  type RowGroup,
  type SchemaElement,
  type SchemaTree,
} from 'hyparquet'
import { encodeFileName } from '../file-name.ts'
import { DataFileError, damaged } from './data-file-error.ts'
import { type BatchOptions, type RowBatch, threadBatches, type Values } from './parquet-batches.ts'
import { chunkRange, locatePages, type PageLocation, pageCompressors } from './parquet-pages.ts'

const magic = 'PAR1'
const footerEndBytes = 8
/** Bytes of a footer: of a table with hundreds of columns and thousands of row groups. */
const maxFooterBytes = 128 * 1024 * 1024
const initialFetchSize = 64 * 1024

/** Rows of a batch, and compressed bytes of its largest column, at most where a row is not larger alone. */
const batchRows = 1024
const batchBytes = 2 * 1024 * 1024
/** Bytes of a column of a row group that can be read only as a whole. */
const maxWholeBytes = 1024 * 1024 * 1024

/**
 * A Parquet file that is read a few rows at a time, whatever the size of its row groups and however large its pictures. No
 * size or count in it is trusted.
 *
 * @example
 * const file = await openParquet('photos.parquet')
 * for await (const { count, columns } of file.batches({ columns: ['url'] })) ...
 */
export class ParquetFile {
  readonly path: string
  readonly metadata: FileMetaData
  readonly #handle: FileHandle
  readonly #file: AsyncBuffer
  readonly #end: number

  constructor(path: string, handle: FileHandle, file: AsyncBuffer, metadata: FileMetaData) {
    this.path = path
    this.metadata = metadata
    this.#handle = handle
    this.#file = file
    this.#end = file.byteLength - metadata.metadata_length - footerEndBytes
  }

  get rows(): number {
    return this.metadata.row_groups.reduce((sum, { num_rows }) => sum + Number(num_rows), 0)
  }

  /** Top-level columns, in order. */
  get columns(): readonly SchemaTree[] {
    return parquetSchema(this.metadata).children
  }

  /**
   * Yields the rows from a thread of its own: what hides in a page can take all the memory or the time of whoever decodes it.
   * @throws DataFileError
   */
  batches(options: BatchOptions = {}): AsyncGenerator<RowBatch> {
    return threadBatches(this.path, options)
  }

  /** Yields the rows from this thread. @throws DataFileError */
  async *batchesHere({ columns, from = 0, stored = false }: BatchOptions = {}): AsyncGenerator<RowBatch> {
    const names = columns ?? this.columns.map(({ element }) => element.name)
    const metadata = stored ? { ...this.metadata, schema: storedSchema(this.metadata.schema) } : this.metadata
    let start = 0
    for (const [index, group] of this.metadata.row_groups.entries()) {
      const rows = Number(group.num_rows)
      if (start + rows > from && rows > 0)
        try {
          const options = { group, names, from: Math.max(0, from - start), metadata }
          for await (const batch of this.#groupBatches(options))
            yield { ...batch, start: start + batch.start }
        } catch (error) {
          const fault = damaged(this.path, `in row group ${index + 1}`, error)
          throw fault instanceof DataFileError && !fault.message.startsWith(this.path)
            ? new DataFileError(`${this.path}, row group ${index + 1}: ${fault.message}.`, { cause: fault })
            : fault
        }
      start += rows
    }
  }

  async *#groupBatches({ group, names, from, metadata }: GroupOptions): AsyncGenerator<RowBatch> {
    const rows = Number(group.num_rows)
    const located = await this.#locate(group, names, rows)
    const pageLocationsByGroup = [
      Object.fromEntries(located.flatMap(({ path, pages }) => (pages ? [[path, pages]] : []))),
    ]
    const scan = await parquetScan({
      file: this.#file,
      metadata: { ...metadata, row_groups: [group] },
      columns: [...names],
      compressors: pageCompressors,
      utf8: false,
      geoparquet: false,
      // Not in the library's types: offset indexes as it reads them itself, made from the pages.
      ...{ pageLocationsByGroup },
    })
    const cursors = names.map(
      (name) =>
        new ColumnCursor(
          name,
          rows,
          located.filter((leaf) => leaf.name === name),
          scan.readColumn,
        ),
    )
    const largest = located.toSorted((a, b) => b.bytes - a.bytes)[0]
    for (let start = from; start < rows; ) {
      const end = batchEnd(start, rows, largest?.pages)
      const columns = new Map<string, Values>()
      for (const cursor of cursors) columns.set(cursor.name, await cursor.read(start, end))
      yield { start, count: end - start, columns }
      start = end
    }
  }

  async #locate(group: RowGroup, names: readonly string[], rows: number): Promise<LocatedLeaf[]> {
    const located: LocatedLeaf[] = []
    const tree = parquetSchema(this.metadata)
    for (const chunk of group.columns) {
      const meta = chunk.meta_data
      if (chunk.file_path) throw new DataFileError('its columns are in other files')
      if (!meta) throw new DataFileError('it is encrypted')
      const [name = ''] = meta.path_in_schema
      if (!names.includes(name)) continue
      const isFlat = isFlatAt(tree, meta.path_in_schema)
      const place = { file: this.#file, end: this.#end, meta, rows, isFlat }
      const { start, end } = chunkRange(place)
      const pages = await locatePages(place)
      if (!pages && end - start > maxWholeBytes)
        throw new DataFileError(
          `column ${name} has lists, and ${end - start} bytes in one row group. Write smaller row groups`,
        )
      located.push({ name, path: meta.path_in_schema.join('.'), bytes: end - start, pages })
    }
    const missing = names.find((name) => !located.some((leaf) => leaf.name === name))
    if (missing !== undefined) throw new DataFileError(`it has no column ${missing}`)
    return located
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

interface GroupOptions {
  group: RowGroup
  names: readonly string[]
  from: number
  metadata: FileMetaData
}

interface LocatedLeaf {
  /** Of the column that it is a part of. */
  name: string
  path: string
  bytes: number
  pages: readonly PageLocation[] | undefined
}

/** Opens a file and reads its footer. @throws DataFileError for what is none */
export async function openParquet(path: string): Promise<ParquetFile> {
  const handle = await open(encodeFileName(path), 'r')
  try {
    const { size } = await handle.stat()
    const file = bufferOf(handle, size)
    const metadata = await readFooter(path, file)
    return new ParquetFile(path, handle, file, metadata)
  } catch (error) {
    await handle.close()
    throw damaged(path, 'in its footer', error)
  }
}

async function readFooter(path: string, file: AsyncBuffer): Promise<FileMetaData> {
  const size = file.byteLength
  const end = Buffer.from(await file.slice(Math.max(0, size - footerEndBytes), size))
  if (size < footerEndBytes + magic.length || end.toString('latin1', 4) !== magic)
    throw new DataFileError(`${path} is no Parquet file, or its end is missing: it does not end in ${magic}.`)
  const length = end.readUInt32LE(0)
  if (length > size - footerEndBytes - magic.length || length > maxFooterBytes)
    throw new DataFileError(`${path} is damaged: its footer says it has ${length} bytes.`)
  const metadata = await parquetMetadataAsync(file, { initialFetchSize, geoparquet: false })
  const isCounted = metadata.row_groups.every(
    ({ num_rows }) => num_rows >= 0n && num_rows <= Number.MAX_SAFE_INTEGER,
  )
  const total = metadata.row_groups.reduce((sum, { num_rows }) => sum + num_rows, 0n)
  if (!isCounted || total !== BigInt(metadata.num_rows))
    throw new DataFileError(
      `${path} is damaged: its footer says ${metadata.num_rows} rows, and its row groups ${total}.`,
    )
  return metadata
}

function bufferOf(handle: FileHandle, size: number): AsyncBuffer {
  return {
    byteLength: size,
    async slice(start, end = size) {
      if (!(start >= 0 && end >= start && end <= size))
        throw new DataFileError(`it points to bytes ${start} to ${end} of ${size}`)
      const bytes = new Uint8Array(end - start)
      for (let at = 0; at < bytes.length; ) {
        const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at)
        if (bytesRead === 0) throw new DataFileError('it has become shorter')
        at += bytesRead
      }
      return bytes.buffer
    },
  }
}

/** Nothing on the way to the leaf is repeated. */
function isFlatAt(tree: SchemaTree, path: readonly string[]): boolean {
  let node: SchemaTree | undefined = tree
  for (const name of path) {
    node = node?.children.find(({ element }) => element.name === name)
    if (!node) throw new DataFileError(`it has a column ${path.join('.')} that is not in its schema`)
    if (node.element.repetition_type === 'REPEATED') return false
  }
  return true
}

/** As many rows as their pages' bytes allow, and at least one. */
function batchEnd(start: number, rows: number, pages: readonly PageLocation[] = []): number {
  const most = Math.min(rows, start + batchRows)
  let bytes = 0
  for (let index = pageAt(pages, start); index < pages.length; index++) {
    const { first_row_index, compressed_page_size } = pages[index]!
    const first = Number(first_row_index)
    if (first >= most) break
    if (bytes > 0 && bytes + compressed_page_size > batchBytes) return Math.max(first, start + 1)
    bytes += compressed_page_size
  }
  return most
}

/** Index of the page that holds a row. */
function pageAt(pages: readonly PageLocation[], row: number): number {
  let low = 0
  let high = pages.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (Number(pages[middle]!.first_row_index) <= row) low = middle + 1
    else high = middle
  }
  return Math.max(low - 1, 0)
}

type ReadColumn = Awaited<ReturnType<typeof parquetScan>>['readColumn']

/** Rows of one column of a row group, read by whole pages, each once. */
class ColumnCursor {
  readonly name: string
  readonly #rows: number
  readonly #leaves: readonly LocatedLeaf[]
  readonly #readColumn: ReadColumn
  #held: { start: number; end: number; values: Values } = { start: 0, end: 0, values: [] }

  constructor(name: string, rows: number, leaves: readonly LocatedLeaf[], readColumn: ReadColumn) {
    this.name = name
    this.#rows = rows
    this.#leaves = leaves
    this.#readColumn = readColumn
  }

  async read(start: number, end: number): Promise<Values> {
    if (start < this.#held.start || end > this.#held.end) {
      const rowStart = this.#pageStart(start)
      const rowEnd = this.#pageEnd(end)
      const values = await this.#readColumn({ column: this.name, rowStart, rowEnd })
      if (values.length !== rowEnd - rowStart)
        throw new DataFileError(
          `column ${this.name} has ${values.length} values for ${rowEnd - rowStart} rows`,
        )
      this.#held = { start: rowStart, end: rowEnd, values }
    }
    const { start: first, values } = this.#held
    return Array.isArray(values)
      ? values.slice(start - first, end - first)
      : (values as unknown as Int32Array).subarray(start - first, end - first)
  }

  /** The largest part decides: the others are small. */
  get #pages(): readonly PageLocation[] | undefined {
    if (this.#leaves.some(({ pages }) => !pages)) return undefined
    return this.#leaves.toSorted((a, b) => b.bytes - a.bytes)[0]?.pages
  }

  #pageStart(row: number): number {
    const pages = this.#pages
    return pages?.length ? Number(pages[pageAt(pages, row)]!.first_row_index) : 0
  }

  #pageEnd(end: number): number {
    const pages = this.#pages
    const next = pages?.[pageAt(pages, end - 1) + 1]
    return next ? Number(next.first_row_index) : this.#rows
  }
}

/** Elements that belong to a top-level column, its own first. */
export function columnElements(schema: readonly SchemaElement[]): SchemaElement[][] {
  const columns: SchemaElement[][] = []
  let at = 1
  const take = (): SchemaElement[] => {
    const element = schema[at++]
    if (!element) throw new DataFileError('its schema is not complete')
    const taken = [element]
    for (let child = 0; child < (element.num_children ?? 0); child++) taken.push(...take())
    return taken
  }
  while (at < schema.length) columns.push(take())
  return columns
}

const isMap = (element: SchemaElement | undefined) => /^MAP/.test(element?.converted_type ?? '')

/** The schema without what its leaves mean, so that values stay as they are stored. Lists and maps keep their shape. */
export const storedSchema = (schema: readonly SchemaElement[]): SchemaElement[] =>
  schema.map((element, index) => {
    const { converted_type, logical_type, ...plain } = element
    // Keys of maps come as names of fields.
    if (element.type !== undefined) return isMap(schema[index - 2]) ? element : plain
    const isContainer = isMap(element) || converted_type === 'LIST'
    return isContainer ? element : plain
  })

/** Tests for a map whose keys are no text: it cannot be kept. */
export const hasOtherKeys = (elements: readonly SchemaElement[]) =>
  elements.some((element, index) => isMap(elements[index - 2]) && element.converted_type !== 'UTF8')
