import { InvalidArgumentError } from 'commander'
import { parseS3Uri, tenantSchema } from '../../edge/contract/tenant.ts'
import { count } from './options.ts'

/** Readers of option values for commander: text in, value out, or one line that says what is allowed. */

/** The name of a tenant. */
export function tenantName(text: string): string {
  if (tenantSchema.shape.id.safeParse(text).success) return text
  throw new InvalidArgumentError('It must be 1 to 63 lower-case letters, digits, "-" and "_", such as acme.')
}

/** One or more addresses to grant: `s3://bucket/prefix/` for all below it, without the last slash for one object. */
export function grantUris(text: string, earlier: string[] = []): string[] {
  try {
    parseS3Uri(text)
  } catch {
    throw new InvalidArgumentError('It must be like s3://bucket/prefix/, or s3://bucket/key for one object.')
  }
  // The address of a bucket alone would be no place inside it.
  return [...earlier, /^s3:\/\/[^/]+$/.test(text) ? `${text}/` : text]
}

/** A limit. */
export function limitOrNone(text: string): number | 'none' {
  if (text === 'none') return text
  try {
    return count(text)
  } catch {
    throw new InvalidArgumentError('It must be a whole number of at least 1, or none.')
  }
}
