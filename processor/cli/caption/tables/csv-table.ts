import { createReadStream, createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parse } from 'csv-parse'
import { stringify } from 'csv-stringify'
import { encodeFileName } from '../../../../infra/file-name.ts'
import { outputColumns, type Row } from './columns.ts'
import { readJournal } from './journal.ts'
import { outputValues, ownColumns } from './table-line.ts'

interface TableFormat {
  caption: string
  delimiter: ',' | '\t'
}

/** Writes the lines of a journal as a table of text with a header: the columns of the input, then the caption and ours. */
export async function writeCsv(
  journal: string,
  path: string,
  { caption, delimiter }: TableFormat,
): Promise<void> {
  const kept = new Set<string>()
  for await (const lines of readJournal(journal))
    for (const line of lines) for (const name of Object.keys(ownColumns(line))) kept.add(name)
  const columns = [...kept, caption, ...outputColumns]
  async function* rows() {
    for await (const lines of readJournal(journal))
      for (const line of lines) {
        const row: Row = { ...ownColumns(line), [caption]: line.caption, ...outputValues(line) }
        yield columns.map((name) => cellOf(row[name]))
      }
  }
  const text = stringify({ header: true, columns: columns.map((key) => ({ key })), delimiter })
  await pipeline(Readable.from(rows()), text, createWriteStream(path, { flags: 'a' }))
}

/** Lists and objects are JSON, as are the lists of ours; nothing is an empty cell. */
const cellOf = (value: unknown): string =>
  value === null || value === undefined ? '' : typeof value === 'object' ? JSON.stringify(value) : `${value}`

/** Yields the rows of a table that `writeCsv` wrote. */
export async function* readCsv(path: string, delimiter: string): AsyncGenerator<Row> {
  const rows = createReadStream(encodeFileName(path)).compose(
    parse({ bom: true, columns: true, delimiter, max_record_size: 256 * 1024 * 1024 }),
  )
  yield* rows as AsyncIterable<Row>
}
