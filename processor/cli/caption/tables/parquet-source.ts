import { dirname } from 'node:path'
import { TurbineError } from '../../../../edge/contract/errors.ts'
import { DataFileError } from '../../../../infra/data-files/data-file-error.ts'
import { openParquet, type ParquetFile } from '../../../../infra/data-files/parquet-file.ts'
import { UsageError } from '../../errors.ts'
import { locate, type Source } from '../manifest.ts'
import { type RowRoles, rolesOf, type TableOptions } from './columns.ts'

/** Opens a file that the command reads. @throws UsageError for what is no Parquet file */
export async function openTable(path: string): Promise<ParquetFile> {
  try {
    return await openParquet(path)
  } catch (error) {
    throw error instanceof DataFileError ? new UsageError(error.message, { cause: error }) : error
  }
}

export const namesOf = (file: ParquetFile) => file.columns.map(({ element }) => element.name)

/**
 * Yields the rows of a Parquet file. Its pictures are bytes, addresses, or Hugging Face's `{bytes, path}`.
 * What cannot be read on is an entry that fails, behind those that could be read.
 * @throws UsageError for a file without the columns
 */
export async function* parquetRows(
  path: string,
  { columns, byReference, ...options }: TableOptions,
): AsyncGenerator<Source> {
  const kept = byReference ? undefined : options.kept
  let file: ParquetFile | undefined
  try {
    file = await openParquet(path)
    const names = namesOf(file)
    const roles = rolesOf(path, names, columns)
    const asked = kept ? names : [...new Set(Object.values(roles) as string[])]
    for await (const batch of file.batches({ columns: asked }))
      for (let index = 0; index < batch.count; index++) {
        const cellOf = (name: string) => batch.columns.get(name)?.[index]
        const place = { table: path, number: batch.start + index + 1, roles }
        const source = rowSource(cellOf, place)
        if (kept)
          source.columns = kept.of(Object.fromEntries(asked.map((name) => [name, plainValue(cellOf(name))])))
        yield source
      }
  } catch (error) {
    yield damagedFile(path, error)
  } finally {
    await file?.close()
  }
}

/** A file that cannot be read on, as an entry that fails. @throws any other error */
export function damagedFile(path: string, error: unknown): Source {
  if (!(error instanceof DataFileError)) throw error
  const fault = new TurbineError(error.message, { status: 400, code: 'file_damaged', cause: error })
  return { image: path, error: fault }
}

interface RowPlace {
  table: string
  /** From 1. */
  number: number
  roles: RowRoles
}

function rowSource(cellOf: (name: string) => unknown, { table, number, roles }: RowPlace): Source {
  const row = `${table}:${number}`
  const id = roles.id === undefined ? undefined : cellOf(roles.id)
  const prompt = roles.prompt === undefined ? undefined : cellOf(roles.prompt)
  const about = {
    row,
    ...(id !== undefined && id !== null && { customId: textOf(id) }),
    ...(typeof prompt === 'string' && prompt !== '' && { prompt }),
  }
  return { ...imageOf(cellOf(roles.image), table, row), ...about }
}

/** Bytes, an address, or both: a data set with its pictures in it also has their names. */
function imageOf(value: unknown, table: string, row: string): Source {
  if (value instanceof Uint8Array) return { image: row, bytes: value }
  if (typeof value === 'string' && value.trim() !== '') return locate(value.trim(), dirname(table))
  if (typeof value === 'object' && value !== null) {
    const { bytes, path, url } = value as Record<string, unknown>
    const name = [path, url].find((text) => typeof text === 'string' && text !== '') as string | undefined
    if (bytes instanceof Uint8Array && bytes.length > 0) return { image: name ?? row, bytes }
    if (name !== undefined) return locate(name, dirname(table))
  }
  const error = new TurbineError(`${row} has no image.`, { status: 400, code: 'image_missing' })
  return { image: row, error }
}

const textOf = (id: unknown): string =>
  id instanceof Uint8Array ? Buffer.from(id).toString('hex') : id instanceof Date ? id.toISOString() : `${id}`

/** As JSON has it: whole numbers beyond 2^53 as text, times in ISO 8601, without bytes. */
export function plainValue(value: unknown): unknown {
  if (value === undefined || value instanceof Uint8Array) return null
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : `${value}`
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (typeof value === 'number') return Number.isFinite(value) ? value : null
  if (Array.isArray(value)) return value.map(plainValue)
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plainValue)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, item]) =>
      item instanceof Uint8Array ? [] : [[name, plainValue(item)]],
    ),
  )
}
