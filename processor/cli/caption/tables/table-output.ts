import { createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { jsonLine } from '../../../../edge/contract/lines.ts'
import { DataFileError } from '../../../../infra/data-files/data-file-error.ts'
import { UsageError } from '../../errors.ts'
import { replaceFile } from '../../replace-file.ts'
import type { OutputLine } from '../earlier-run.ts'
import type { Input } from '../inputs.ts'
import { type ColumnFlags, captionColumn, KeptColumns, type Row } from './columns.ts'
import { readCsv, writeCsv } from './csv-table.ts'
import { journalOf, type OutputFormat } from './output-format.ts'
import { type InputSchema, inputSchema, readParquetRows, writeParquet } from './parquet-table.ts'
import { readShardLines, shardPaths, writeShards } from './shard-table.ts'
import { lineOf } from './table-line.ts'

/** An output that is no file of lines, and is made of such a file when the run ends. */
export interface TableOutput {
  format: Exclude<OutputFormat, 'jsonl'>
  path: string
  /** The lines of which it is made. */
  journal: string
  /** Name of the column, or extension, of the captions. */
  caption: string
  schema: InputSchema
  /** Whether the input is nothing but Parquet files. */
  isWhole: boolean
  /** True when the journal was made of the output of an earlier run, which has all of it. */
  isRestored: boolean
}

export interface TableOutputOptions {
  format: Exclude<OutputFormat, 'jsonl'>
  out: string
  columns: ColumnFlags
  inputs: readonly Input[]
  overwrite: boolean
}

/**
 * Prepares an output: what can be refused is refused now. The output of an earlier run becomes the journal of this one again.
 * @throws UsageError
 */
export async function openTableOutput(options: TableOutputOptions): Promise<TableOutput> {
  const { format, out, columns, inputs, overwrite } = options
  if (format === 'webdataset') assertSamples(inputs)
  const tables = inputs.flatMap((input) => (input.kind === 'table' ? [input.path] : []))
  const schema = await inputSchema(format === 'parquet' ? tables : [], new KeptColumns(columns, true))
  const caption =
    format === 'webdataset' && columns.captionColumn === undefined ? 'txt' : captionColumn(columns)
  const isWhole = tables.length === inputs.length
  const output = { format, path: out, journal: journalOf(out), caption, schema, isWhole, isRestored: false }
  const first = format === 'webdataset' ? shardPaths(out).next().value! : out
  if (!(await exists(first))) return output
  await assertOwn(output)
  if (overwrite || (await exists(output.journal))) return output
  await restoreJournal(output)
  return { ...output, isRestored: true }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** Members of a shard are the bytes of pictures: those at addresses are not fetched again for it. */
function assertSamples(inputs: readonly Input[]): void {
  if (
    inputs.every(({ kind }) => kind === 'shard' || kind === 'folder' || kind === 'image' || kind === 'glob')
  )
    return
  throw new UsageError(
    'A WebDataset is made of shards or of files of pictures. Write captions of lists, tables and addresses as .parquet, .csv or .jsonl.',
  )
}

/** @throws UsageError when a file is not from this command */
async function assertOwn(output: TableOutput): Promise<void> {
  for await (const _ of earlierLines(output)) return
}

async function restoreJournal(output: TableOutput): Promise<void> {
  async function* lines() {
    for await (const line of earlierLines(output)) yield `${jsonLine(line)}\n`
  }
  await replaceFile(output.journal, (part) => pipeline(lines, createWriteStream(part)))
}

/** Yields the lines of an earlier output. @throws UsageError when it is none */
async function* earlierLines(output: TableOutput): AsyncGenerator<OutputLine> {
  const { path } = output
  try {
    for await (const line of readLines(output)) {
      if (!line) throw notOurs(path)
      yield line
    }
  } catch (error) {
    const isBroken =
      error instanceof DataFileError ||
      error instanceof SyntaxError ||
      /^CSV_/.test((error as { code?: string }).code ?? '')
    throw isBroken ? notOurs(path, error) : error
  }
}

async function* readLines({ format, path, caption }: TableOutput): AsyncGenerator<OutputLine | undefined> {
  if (format === 'webdataset') yield* readShardLines(path)
  else for await (const row of readRows(format, path)) yield lineOf(row, caption)
}

function readRows(format: 'csv' | 'tsv' | 'parquet', path: string): AsyncGenerator<Row> {
  return format === 'parquet' ? readParquetRows(path) : readCsv(path, delimiters[format])
}

const delimiters = { csv: ',', tsv: '\t' } as const

const notOurs = (path: string, cause?: unknown) =>
  new UsageError(`${path} is not an output of this command. Choose another file; this one stays as it is.`, {
    cause,
  })

/** Makes the output of the journal, puts it in its place at once, and removes the journal. */
export async function writeTableOutput({ format, path, journal, ...output }: TableOutput): Promise<void> {
  if (format === 'webdataset') await writeShards(journal, path, output)
  else
    await replaceFile(path, (part) =>
      format === 'parquet'
        ? writeParquet(journal, part, output)
        : writeCsv(journal, part, { ...output, delimiter: delimiters[format] }),
    )
  await rm(journal)
}
