import { isImageField } from '../../../../edge/contract/lists/image-fields.ts'
import { UsageError } from '../../errors.ts'

/** Which columns of tables are read, and what becomes of them. */
export interface ColumnFlags {
  imageColumn?: string
  idColumn?: string
  promptColumn?: string
  captionColumn?: string
  /** Columns of the input that the output does not have. */
  dropColumns?: readonly string[]
}

/** How tables and shards are read. */
export interface TableOptions {
  columns: ColumnFlags
  /** Columns that go into the lines of the output; absent: none. */
  kept?: KeptColumns
  /** Those of Parquet files are taken from them when the output is made. */
  byReference?: boolean
}

/** Fields of a row as they are read: JSON, or what Parquet has. */
export type Row = Record<string, unknown>

/** Columns that every table has that is written. */
export const outputColumns = [
  'finish_reason',
  'turbine_model',
  'turbine_prune_level',
  'turbine_prune_ratio',
  'turbine_tokens_in',
  'turbine_tokens_out',
  'turbine_queue_ms',
  'turbine_inference_ms',
  'turbine_warnings',
  'turbine_captions',
  'turbine_tags',
  'turbine_source',
] as const
export type OutputColumnName = (typeof outputColumns)[number]

/** Fields of a line of JSON that is written, which no field of the input replaces. */
const lineFields = ['custom_id', 'image', 'row', 'prompt', 'finish_reason', 'captions', 'turbine']
/** Those of them that a line of the input has for the same. */
const sameFields = ['custom_id', 'image', 'prompt']

export const captionColumn = ({ captionColumn = 'caption' }: ColumnFlags) => captionColumn

/** Names of the columns of an output, by those of its input: what has the name of one of ours is kept as `input_...`. */
export class KeptColumns {
  readonly #flags: ColumnFlags
  readonly #taken: ReadonlySet<string>
  readonly #names = new Map<string, string>()
  readonly #isSame: (column: string) => boolean

  constructor(flags: ColumnFlags, isTable: boolean) {
    this.#flags = flags
    const isNamed = (flags.imageColumn ?? flags.idColumn ?? flags.promptColumn) !== undefined
    this.#isSame = (column) => !isTable && !isNamed && sameFields.includes(column)
    this.#taken = new Set([captionColumn(flags), ...(isTable ? outputColumns : lineFields)])
  }

  /** Undefined for a column that is left out. */
  nameOf(column: string): string | undefined {
    if (this.#flags.dropColumns?.includes(column) || this.#isSame(column)) return undefined
    if (!this.#taken.has(column)) return column
    const known = this.#names.get(column)
    if (known !== undefined) return known
    let name = `input_${column}`
    while (this.#taken.has(name) || this.#flags.dropColumns?.includes(name)) name = `input_${name}`
    this.#names.set(column, name)
    return name
  }

  /** The fields that are kept of a row, under their names in the output. */
  of(row: Row): Row {
    const kept: Row = {}
    for (const [column, value] of Object.entries(row)) {
      const name = this.nameOf(column)
      if (name !== undefined && isKept(value)) kept[name] = value
    }
    return kept
  }
}

/** More characters than any text about a picture. */
const maxKeptCharacters = 1024 * 1024

/** Pictures are not written out again as text. */
const isKept = (value: unknown) =>
  typeof value !== 'string' || (!/^data:/i.test(value) && value.length <= maxKeptCharacters)

export interface RowRoles {
  image: string
  id?: string
  prompt?: string
}

/** Finds the columns of the image, the id and the prompt by their flags, else by their names. @throws UsageError */
export function rolesOf(table: string, columns: readonly string[], flags: ColumnFlags): RowRoles {
  const named = (flag: string, name: string | undefined) => {
    if (name === undefined || columns.includes(name)) return name
    throw new UsageError(`${table} has no column ${name} for --${flag}. It has ${columns.join(', ')}.`)
  }
  const known = (name: string) => columns.find((column) => plain(column) === name)
  const image =
    named('image-column', flags.imageColumn) ?? columns.find((column) => isImageField(plain(column)))
  if (image === undefined)
    throw new UsageError(
      `${table} has no column that can be the image. Name it with --image-column. It has ${columns.join(', ')}.`,
    )
  const id = named('id-column', flags.idColumn) ?? known('custom_id')
  const prompt = named('prompt-column', flags.promptColumn) ?? known('prompt')
  return { image, ...(id !== undefined && { id }), ...(prompt !== undefined && { prompt }) }
}

const plain = (column: string) =>
  column
    .trim()
    .replaceAll(/[\s-]+/g, '_')
    .toLowerCase()
