import { type FileHandle, open } from 'node:fs/promises'
import type { SchemaElement } from 'hyparquet'
import type { RowBatch } from '../../../../infra/data-files/parquet-batches.ts'
import {
  columnElements,
  hasOtherKeys,
  openParquet,
  type ParquetFile,
} from '../../../../infra/data-files/parquet-file.ts'
import { type OutputColumn, ParquetOutput } from '../../../../infra/data-files/parquet-output.ts'
import { UsageError } from '../../errors.ts'
import type { OutputLine } from '../earlier-run.ts'
import { type KeptColumns, type OutputColumnName, outputColumns, type Row } from './columns.ts'
import { readJournal } from './journal.ts'
import { openTable, plainValue } from './parquet-source.ts'
import { outputValues, ownColumns } from './table-line.ts'

/** Columns of the tables of the input: those of the same name are one, and have the same type. */
export class InputSchema {
  /** By the name in the output. */
  readonly columns = new Map<string, SchemaElement[]>()
  /** By path: the name in the file of each column of the output. */
  readonly tables = new Map<string, ReadonlyMap<string, string>>()
  #keyValues: { key: string; value?: string }[] = []

  /** About the data set, e.g. Hugging Face's features; not how a library holds it in memory. */
  get keyValues() {
    return this.#keyValues
  }

  /** @throws UsageError for columns that cannot be one */
  add(path: string, file: ParquetFile, kept: KeptColumns): void {
    const names = new Map<string, string>()
    for (const elements of columnElements(file.metadata.schema)) {
      const [own] = elements
      const name = kept.nameOf(own!.name)
      if (name === undefined) continue
      names.set(name, own!.name)
      if (hasOtherKeys(elements))
        throw new UsageError(
          `Column ${own!.name} of ${path} is a map whose keys are no text. Leave it out with --drop-columns.`,
        )
      const renamed = [{ ...own!, name, repetition_type: 'OPTIONAL' as const }, ...elements.slice(1)]
      const earlier = this.columns.get(name)
      if (earlier && shapeOf(earlier) !== shapeOf(renamed))
        throw new UsageError(
          `Column ${own!.name} of ${path} has another type than in the files before. Make them alike, or leave it out with --drop-columns.`,
        )
      if (own!.repetition_type === 'REPEATED')
        throw new UsageError(
          `Column ${own!.name} of ${path} cannot be kept. Leave it out with --drop-columns.`,
        )
      this.columns.set(name, earlier ?? renamed)
    }
    if (this.tables.size === 0)
      this.#keyValues = (file.metadata.key_value_metadata ?? []).filter(
        ({ key }) => key !== 'ARROW:schema' && key !== 'pandas',
      )
    this.tables.set(path, names)
  }
}

const shapeOf = (elements: readonly SchemaElement[]) =>
  JSON.stringify(elements.map(({ field_id: _, ...element }) => element))

/** Reads the schemas of all Parquet files of the input before anything is captioned. @throws UsageError */
export async function inputSchema(paths: readonly string[], kept: KeptColumns): Promise<InputSchema> {
  const schema = new InputSchema()
  for (const path of paths) {
    const file = await openTable(path)
    try {
      schema.add(path, file, kept)
    } finally {
      await file.close()
    }
  }
  return schema
}

const text = (name: string): SchemaElement[] => [
  {
    ...{ name, type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
    ...{ converted_type: 'UTF8', logical_type: { type: 'STRING' } },
  },
]
const plain = (name: string, type: SchemaElement['type']): SchemaElement[] => [
  { name, type, repetition_type: 'OPTIONAL' },
]
const texts = (name: string): SchemaElement[] => [
  {
    ...{ name, num_children: 1, repetition_type: 'OPTIONAL' },
    ...{ converted_type: 'LIST', logical_type: { type: 'LIST' } },
  },
  { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
  ...text('element'),
]

const outputTypes: Record<OutputColumnName, (name: string) => SchemaElement[]> = {
  finish_reason: text,
  turbine_model: text,
  turbine_prune_level: (name) => plain(name, 'INT32'),
  turbine_prune_ratio: (name) => plain(name, 'DOUBLE'),
  turbine_tokens_in: (name) => plain(name, 'INT32'),
  turbine_tokens_out: (name) => plain(name, 'INT32'),
  turbine_queue_ms: (name) => plain(name, 'DOUBLE'),
  turbine_inference_ms: (name) => plain(name, 'DOUBLE'),
  turbine_warnings: texts,
  turbine_captions: texts,
  turbine_tags: text,
  turbine_source: text,
}

/** Types that the values of a column of JSON have, from the narrowest: whole numbers fit numbers, and everything fits text. */
type JsonType = 'BOOLEAN' | 'INT64' | 'DOUBLE' | 'text'

function typeOfJson(value: unknown): JsonType | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value === 'boolean') return 'BOOLEAN'
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'INT64' : 'DOUBLE'
  return 'text'
}

function widest(a: JsonType | undefined, b: JsonType | undefined): JsonType | undefined {
  if (a === undefined || b === undefined || a === b) return a ?? b
  const numbers: (JsonType | undefined)[] = ['INT64', 'DOUBLE']
  return numbers.includes(a) && numbers.includes(b) ? 'DOUBLE' : 'text'
}

function asJsonType(value: unknown, type: JsonType): unknown {
  if (value === null || value === undefined) return null
  if (type === 'INT64') return BigInt(value as number)
  if (type === 'text') return typeof value === 'string' ? value : JSON.stringify(value)
  return value
}

/** Column of a table, and where its values are: in a file of the input, or in the journal. */
interface Column extends OutputColumn {
  of(row: TableRow): unknown
}

interface TableRow {
  line: OutputLine
  /** Values of the columns of its file. */
  kept?: ReadonlyMap<string, unknown>
  ours: ReturnType<typeof outputValues>
}

export interface ParquetOptions {
  caption: string
  schema: InputSchema
  /** Whether all rows are of the files that the schema is of. */
  isWhole: boolean
}

/**
 * Writes the lines of a journal as a Parquet file. The columns of Parquet files of the input are taken from them, as they are
 * stored; those of other rows are in the journal.
 */
export async function writeParquet(
  journal: string,
  path: string,
  { caption, schema, isWhole }: ParquetOptions,
): Promise<void> {
  const types = new Map<string, JsonType | undefined>()
  for await (const lines of isWhole ? [] : readJournal(journal))
    for (const line of lines)
      if (!isKeptByFile(line, schema))
        for (const [name, value] of Object.entries(ownColumns(line)))
          types.set(name, widest(types.get(name), typeOfJson(value)))
  const columns = tableColumns(types, { caption, schema })
  const readers = new KeptRows(schema)
  const handle: FileHandle = await open(path, 'a')
  try {
    const output = new ParquetOutput(handle, columns, schema.keyValues as { key: string; value: string }[])
    for await (const lines of readJournal(journal)) {
      const rows: unknown[][] = []
      for (const line of lines) {
        const kept = isKeptByFile(line, schema) ? await readers.at(line.row!) : undefined
        const row = { line, kept, ours: outputValues(line) }
        rows.push(columns.map((column) => column.of(row)))
      }
      await output.write(rows)
    }
    await output.finish()
  } finally {
    await Promise.all([readers.close(), handle.close()])
  }
}

/** `path:number`. */
function placeOf(row: string): { path: string; number: number } {
  const colon = row.lastIndexOf(':')
  return { path: row.slice(0, colon), number: Number(row.slice(colon + 1)) }
}

const isKeptByFile = ({ row }: OutputLine, { tables }: InputSchema) =>
  row !== undefined && tables.has(placeOf(row).path)

function tableColumns(
  types: ReadonlyMap<string, JsonType | undefined>,
  { caption, schema }: Omit<ParquetOptions, 'isWhole'>,
): Column[] {
  const columns: Column[] = []
  for (const [name, elements] of schema.columns) {
    const isText = elements[0]!.converted_type === 'UTF8'
    columns.push({
      elements,
      stored: true,
      of({ line, kept }) {
        if (kept) return kept.get(name)
        const value = ownColumns(line)[name]
        if (value === null || value === undefined) return null
        if (isText) return Buffer.from(String(value))
        throw new UsageError(
          `Column ${name} is of another type in the Parquet files than in other inputs. Leave it out with --drop-columns.`,
        )
      },
    })
  }
  for (const [name, type = 'text'] of types) {
    if (schema.columns.has(name)) continue
    const elements = type === 'text' ? text(name) : plain(name, type)
    columns.push({ elements, of: ({ line }) => asJsonType(ownColumns(line)[name], type) })
  }
  columns.push({ elements: text(caption), of: ({ line }) => line.caption })
  for (const name of outputColumns)
    columns.push({ elements: outputTypes[name](name), of: ({ ours }) => ours[name] })
  return columns
}

/** Rows of the files of the input, in whatever order; in their own order each is read once. */
class KeptRows {
  readonly #schema: InputSchema
  #path = ''
  #file: ParquetFile | undefined
  #batches: AsyncGenerator<RowBatch> | undefined
  #batch: RowBatch | undefined

  constructor(schema: InputSchema) {
    this.#schema = schema
  }

  /** @throws UsageError when the file has no such row any more */
  async at(row: string): Promise<ReadonlyMap<string, unknown>> {
    const { path, number } = placeOf(row)
    const index = number - 1
    if (path !== this.#path || !this.#file) {
      await this.close()
      this.#path = path
      this.#file = await openTable(path)
    }
    const names = this.#schema.tables.get(path)!
    if (!this.#batch || index < this.#batch.start) this.#batches = undefined
    while (!this.#batch || !this.#batches || index >= this.#batch.start + this.#batch.count) {
      this.#batches ??= this.#file.batches({ columns: [...names.values()], from: index, stored: true })
      const { value } = await this.#batches.next()
      if (!value) throw new UsageError(`${path} has changed: it has no row ${number} any more.`)
      this.#batch = value
    }
    const batch = this.#batch
    const values = new Map<string, unknown>()
    for (const [name, column] of names) values.set(name, batch.columns.get(column)?.[index - batch.start])
    return values
  }

  async close(): Promise<void> {
    await this.#batches?.return(undefined)
    await this.#file?.close()
    this.#file = undefined
    this.#batches = undefined
    this.#batch = undefined
  }
}

/** Yields the rows of a file that `writeParquet` wrote. */
export async function* readParquetRows(path: string): AsyncGenerator<Row> {
  const file = await openParquet(path)
  try {
    for await (const { count, columns } of file.batches())
      for (let index = 0; index < count; index++)
        yield Object.fromEntries([...columns].map(([name, values]) => [name, plainValue(values[index])]))
  } finally {
    await file.close()
  }
}
