import type { FileHandle } from 'node:fs/promises'
import type { KeyValue, SchemaElement } from 'hyparquet'
import { ByteWriter, ParquetWriter, type Writer } from 'hyparquet-writer'
import { storedSchema } from './parquet-file.ts'

/** Rows of a row group, at most. */
const groupRows = 65_536
/** Bytes of its values: more of them the larger the file is, so that the footer stays small. */
const leastGroupBytes = 4 * 1024 * 1024
const mostGroupBytes = 64 * 1024 * 1024
const groupsOfLeastBytes = 256

/** Column of an output by the elements of its schema, its own first. */
export interface OutputColumn {
  elements: readonly SchemaElement[]
  /** Values are as they are stored, from `batches({ stored: true })`; default: as JavaScript has them. */
  stored?: boolean
}

const nameOf = ({ elements }: OutputColumn) => elements[0]!.name

/** Writes a Parquet file, one row group after the other: what is held is one row group, and the footer. */
export class ParquetOutput {
  readonly #columns: readonly OutputColumn[]
  readonly #schema: SchemaElement[]
  readonly #writer: ParquetWriter
  #values: unknown[][]
  #rows = 0
  #size = 0
  #written = 0

  /** @param handle of an empty file; it stays open */
  constructor(handle: FileHandle, columns: readonly OutputColumn[], kvMetadata: KeyValue[] = []) {
    this.#columns = columns
    this.#schema = [
      { name: 'schema', num_children: columns.length },
      ...columns.flatMap(({ elements }) => elements.map(withoutWidth)),
    ]
    const bytes: ByteWriter & Writer = new ByteWriter(1024 * 1024)
    const flush = async () => {
      await handle.appendFile(bytes.getBytes())
      bytes.index = 0
    }
    // It waits before the next row group.
    Object.assign(bytes, { flush, finish: flush })
    // Values that are as stored are written so; what they mean is said in the footer.
    const written = columns.flatMap(({ elements, stored }) =>
      stored ? storedSchema(elements) : [...elements],
    )
    this.#writer = new ParquetWriter({
      writer: bytes,
      schema: [this.#schema[0]!, ...written],
      kvMetadata,
      createdBy: 'turbine',
    })
    this.#values = columns.map(() => [])
  }

  /** Adds rows, by the columns' order. */
  async write(rows: readonly (readonly unknown[])[]): Promise<void> {
    for (const row of rows) {
      for (const [column, value] of row.entries()) {
        this.#values[column]!.push(value ?? null)
        this.#size += sizeOf(value)
      }
      if (++this.#rows === groupRows || this.#size > this.#groupBytes) await this.#endGroup()
    }
  }

  get #groupBytes(): number {
    return Math.min(mostGroupBytes, Math.max(leastGroupBytes, this.#written / groupsOfLeastBytes))
  }

  /** Writes the footer. */
  async finish(): Promise<void> {
    await this.#endGroup()
    this.#writer.schema = this.#schema
    await this.#writer.finish()
  }

  async #endGroup(): Promise<void> {
    if (this.#rows === 0) return
    const columnData = this.#columns.map((column, index) => ({
      name: nameOf(column),
      data: this.#values[index]!,
      // Least and largest are those of what is stored only for the columns that are made here.
      statistics: column.stored !== true,
      // They would be held until the end.
      offsetIndex: false,
      // Pictures are compressed already.
      ...(hasBytes(column) && { codec: 'UNCOMPRESSED' as const }),
    }))
    this.#values = this.#columns.map(() => [])
    this.#written += this.#size
    this.#rows = 0
    this.#size = 0
    await this.#writer.write({ columnData, rowGroupSize: Number.MAX_SAFE_INTEGER })
  }
}

const hasBytes = ({ elements }: OutputColumn) =>
  elements.some(
    ({ type, converted_type, logical_type }) => type === 'BYTE_ARRAY' && !converted_type && !logical_type,
  )

/** The library writes the width of whole numbers as readers do not take it; the older name of a type says the same. */
function withoutWidth(element: SchemaElement): SchemaElement {
  const { logical_type: logical, ...plain } = element
  if (logical?.type !== 'INTEGER') return element
  const name = `${logical.isSigned ? 'INT' : 'UINT'}_${logical.bitWidth}` as SchemaElement['converted_type']
  return { ...plain, converted_type: plain.converted_type ?? name }
}

const numberBytes = 8

/** About what a value takes. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (value instanceof Uint8Array) return value.length + numberBytes
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + sizeOf(item), numberBytes)
  if (typeof value === 'object' && value !== null)
    return Object.values(value).reduce((sum: number, item) => sum + sizeOf(item), numberBytes)
  return numberBytes
}
