import { BaseError } from '../errors.ts'
/** Invalid object key. */
export class InvalidKeyError extends BaseError {}

const maxKeyBytes = 1024

/**
 * @throws InvalidKeyError unless the key is 1 to 1024 bytes of UTF-8 without empty, `.` or `..` segments.
 */
export function assertKey(key: string): void {
  assertS3Key(key)
  const bad = key.split('/').find((segment) => segment === '' || segment === '.' || segment === '..')
  if (bad !== undefined) throw invalid(key, `has the segment "${bad}"; segments are not empty, "." or ".."`)
}

/** Checks a key of any bucket, in which all segments are legal. @throws InvalidKeyError unless it is 1 to 1024 bytes of UTF-8 */
export function assertS3Key(key: string): void {
  const fault = faultOf(key)
  if (fault) throw invalid(key, fault)
}

const invalid = (key: string, fault: string) =>
  new InvalidKeyError(`The object key ${JSON.stringify(key.slice(0, 80))} ${fault}.`)

function faultOf(key: string): string | undefined {
  if (!key.isWellFormed()) return 'is not well-formed Unicode; remove lone surrogates'
  const bytes = Buffer.byteLength(key)
  return bytes === 0 || bytes > maxKeyBytes ? `has ${bytes} bytes; use 1 to ${maxKeyBytes}` : undefined
}
