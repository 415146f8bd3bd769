import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib'
import type { AsyncBuffer, ColumnMetaData, Compressors } from 'hyparquet'
import { parquetHeader } from 'hyparquet/src/column.js'
import { compressors } from 'hyparquet-compressors'
import { DataFileError } from './data-file-error.ts'

/** Data page of a column chunk, as an offset index has it. */
export interface PageLocation {
  offset: bigint
  compressed_page_size: number
  /** In its row group. */
  first_row_index: bigint
}

/** Bytes and values that a page may say it has: what a file says of itself is believed only up to these. */
const maxPageBytes = 512 * 1024 * 1024
const maxPageValues = 16 * 1024 * 1024
/** Headers hold sizes and, at most, the least and the largest value. */
const headerBytes = 4096
const mostHeaderBytes = 4 * 1024 * 1024
/** A chunk of at most this many bytes is read at once to find its pages. */
const smallChunkBytes = 256 * 1024

/** Never more than a page says it has. */
const bounded =
  (inflate: (input: Uint8Array, options: { maxOutputLength: number }) => Uint8Array) =>
  (input: Uint8Array, length: number) =>
    inflate(input, { maxOutputLength: Math.max(length, 1) })

/** The library's reader of LZ4 does not end at the end of nothing, as of a page of nulls. */
const orNothing =
  (inflate: (input: Uint8Array, length: number) => Uint8Array) => (input: Uint8Array, length: number) =>
    length === 0 ? new Uint8Array() : inflate(input, length)

/** Of every codec that the format names. */
export const pageCompressors: Compressors = {
  ...compressors,
  LZ4: orNothing(compressors.LZ4!),
  LZ4_RAW: orNothing(compressors.LZ4_RAW!),
  GZIP: bounded(gunzipSync),
  BROTLI: bounded(brotliDecompressSync),
  ZSTD: bounded(zstdDecompressSync),
}

export interface ColumnPlace {
  file: AsyncBuffer
  /** Bytes before the footer. */
  end: number
  meta: ColumnMetaData
  /** Rows of its row group. */
  rows: number
  /** Values are rows: nothing in it is repeated. */
  isFlat: boolean
}

/**
 * Finds the data pages of a column chunk by walking over their headers, so that a few rows of a chunk of any size can be
 * read. Undefined where rows do not begin with pages: in repeated columns of the first format of pages.
 * @throws DataFileError when sizes and counts do not fit the file or each other
 */
export async function locatePages(place: ColumnPlace): Promise<PageLocation[] | undefined> {
  const { meta, rows, isFlat } = place
  const { start, end } = chunkRange(place)
  const pages: PageLocation[] = []
  let row = 0
  let isLocated = true
  const headers = new Headers(place.file, start, end)
  for (let offset = start; offset < end && (row < rows || !isFlat); ) {
    const { header, length } = await headers.at(offset)
    const size = header.compressed_page_size
    const values = assertPage(header, end - offset - length)
    if (header.type === 'DATA_PAGE' || header.type === 'DATA_PAGE_V2') {
      const rowsInPage = isFlat ? values : header.data_page_header_v2?.num_rows
      if (rowsInPage === undefined || rowsInPage < 0) isLocated = false
      pages.push({
        offset: BigInt(offset),
        compressed_page_size: length + size,
        first_row_index: BigInt(row),
      })
      row += Math.max(rowsInPage ?? 0, 0)
    }
    offset += length + size
  }
  if (isLocated && row !== rows)
    throw new DataFileError(
      `column ${meta.path_in_schema.join('.')} has ${row} rows in its pages, and its row group says ${rows}`,
    )
  return isLocated ? pages : undefined
}

/** Where a chunk lies. @throws DataFileError when that is not in the file */
export function chunkRange({ meta, end: fileEnd }: Pick<ColumnPlace, 'meta' | 'end'>) {
  const start = Number(meta.dictionary_page_offset || meta.data_page_offset)
  const end = start + Number(meta.total_compressed_size)
  if (start >= 4 && end >= start && end <= fileEnd) return { start, end }
  throw new DataFileError(
    `column ${meta.path_in_schema.join('.')} is said to be at bytes ${start} to ${end} of ${fileEnd}`,
  )
}

type PageHeader = ReturnType<typeof parquetHeader>

/** @returns the number of values of a page. @throws DataFileError */
function assertPage(header: PageHeader, bytesLeft: number): number {
  const { compressed_page_size: size, uncompressed_page_size: fullSize } = header
  const values =
    header.data_page_header?.num_values ??
    header.data_page_header_v2?.num_values ??
    header.dictionary_page_header?.num_values ??
    0
  if (!(size >= 0 && size <= bytesLeft))
    throw new DataFileError(`a page says it has ${size} bytes where ${bytesLeft} are left`)
  if (!(fullSize >= 0 && fullSize <= maxPageBytes))
    throw new DataFileError(`a page says it has ${fullSize} bytes; ${maxPageBytes} are the most`)
  if (!(values >= 0 && values <= maxPageValues))
    throw new DataFileError(`a page says it has ${values} values; ${maxPageValues} are the most`)
  return values
}

/** Page headers of a chunk: a small chunk is read once, of a large one only what a header takes. */
class Headers {
  readonly #file: AsyncBuffer
  readonly #end: number
  readonly #isSmall: boolean
  #start: number
  #bytes: ArrayBuffer | undefined

  constructor(file: AsyncBuffer, start: number, end: number) {
    this.#file = file
    this.#start = start
    this.#end = end
    this.#isSmall = end - start <= smallChunkBytes
  }

  async at(offset: number): Promise<{ header: PageHeader; length: number }> {
    if (this.#isSmall) {
      this.#bytes ??= await this.#file.slice(this.#start, this.#end)
      return parse(this.#bytes, offset - this.#start)
    }
    for (let most = headerBytes; ; most *= 32) {
      const bytes = await this.#file.slice(offset, Math.min(offset + most, this.#end))
      try {
        return parse(bytes, 0)
      } catch (error) {
        // Perhaps it is longer: it holds values.
        if (bytes.byteLength < most || most > mostHeaderBytes) throw error
      }
    }
  }
}

function parse(bytes: ArrayBuffer, at: number) {
  const reader = { view: new DataView(bytes), offset: at }
  const header = parquetHeader(reader)
  return { header, length: reader.offset - at }
}
