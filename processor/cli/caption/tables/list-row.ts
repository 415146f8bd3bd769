import { generationFields } from '../../../../edge/contract/generation.ts'
import { parseJson } from '../../../../edge/contract/json.ts'
import type { ManifestLine } from '../../../../edge/contract/lines.ts'
import { isImageField } from '../../../../edge/contract/lists/image-fields.ts'
import type { TableReading } from '../../../../edge/contract/lists/list-file.ts'
import type { ColumnFlags, Row, TableOptions } from './columns.ts'

/** Field of a line that has the cells of its row. */
const cellsField = '__cells__'

/** How the tables of lists are read for this output. */
export const tableReading = ({ columns, kept }: TableOptions): TableReading => ({
  image: columns.imageColumn,
  customId: columns.idColumn,
  prompt: columns.promptColumn,
  ...(kept && { keptAs: cellsField }),
})

/** Fields of a request: they say how its image is captioned, and are no columns of it. */
const requestFields = new Set(['model', 'max_tokens', 'stop', 'turbine', ...Object.keys(generationFields)])

/**
 * A line with its image, id and prompt where they are looked for, and its other fields as columns. A whole request, as in
 * a batch of OpenAI's, has none.
 */
export function mapLine<Line extends ManifestLine>(
  line: Line,
  { columns: flags, kept }: TableOptions = { columns: {} },
): { line: Line; columns?: Row } {
  const isNamed =
    flags.imageColumn !== undefined || flags.idColumn !== undefined || flags.promptColumn !== undefined
  if (!(kept || isNamed) || !line.text?.trimStart().startsWith('{')) return { line }
  const fields = fieldsOf(line.text)
  if (!fields || 'body' in fields || 'method' in fields) return { line }
  const { [cellsField]: cells, ...others } = fields
  const isRow = typeof cells === 'object' && cells !== null
  const row = isRow
    ? (cells as Row)
    : Object.fromEntries(Object.entries(others).filter(([name]) => !requestFields.has(name)))
  const columns = kept?.of(row)
  const mapped = isNamed && !isRow ? { ...line, text: JSON.stringify(withRoles(others, flags)) } : line
  // One that only names its image is none that has columns.
  const hasColumns = columns && Object.keys(columns).some((name) => !isImageField(name))
  return { line: mapped, ...(hasColumns && { columns }) }
}

function fieldsOf(text: string): Row | undefined {
  try {
    const value = parseJson(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Row) : undefined
  } catch {
    // It is told where the line is read.
    return undefined
  }
}

function withRoles(fields: Row, { imageColumn, idColumn, promptColumn }: ColumnFlags): Row {
  const { image, image_url, url, ...others } = fields
  const named = imageColumn === undefined ? { image, image_url, url } : { image: fields[imageColumn] }
  return {
    ...others,
    ...named,
    ...(idColumn !== undefined && { custom_id: fields[idColumn] }),
    ...(promptColumn !== undefined && { prompt: fields[promptColumn] }),
  }
}
