import { BaseError } from '../errors.ts'

/** A Parquet file, a tar or a table that cannot be read on; the message names the file and what is wrong with it. */
export class DataFileError extends BaseError {}

/** What a library throws about damaged bytes, as an error of the file. Errors of the file system stay as they are. */
export function damaged(path: string, where: string, error: unknown): unknown {
  if (error instanceof DataFileError) return error
  if (error instanceof Error && 'syscall' in error) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new DataFileError(`${path} is damaged or cut off ${where}: ${reason.replace(/\.$/, '')}.`, {
    cause: error,
  })
}
