import { BaseError } from '../errors.ts'
/** Invalid object key. */
export class InvalidKeyError extends BaseError {}

const maxKeyBytes = 1024

/**
 * @throws InvalidKeyError unless the key is 1 to 1024 bytes of UTF-8 without empty, `.` or `..` segments.
 */
export function assertKey(key: string): void {
  const fault = faultOf(key)
  if (fault) throw new InvalidKeyError(`The object key ${JSON.stringify(key.slice(0, 80))} ${fault}.`)
}

function faultOf(key: string): string | undefined {
  if (!key.isWellFormed()) return 'is not well-formed Unicode; remove lone surrogates'
  const bytes = Buffer.byteLength(key)
  if (bytes === 0 || bytes > maxKeyBytes) return `has ${bytes} bytes; use 1 to ${maxKeyBytes}`
  const bad = key.split('/').find((segment) => segment === '' || segment === '.' || segment === '..')
  return bad === undefined ? undefined : `has the segment "${bad}"; segments are not empty, "." or ".."`
}
