import { InvalidArgumentError } from 'commander'
import { parseS3Uri, tenantSchema } from '../../edge/contract/tenant.ts'

/** Readers of option values for commander: text in, value out, or one line that says what is allowed. */

/** A whole number of at least 1. */
export function count(text: string): number {
  return wholeNumber(text, 1, 'a whole number of at least 1')
}

/** A whole number of at least 0. */
export function index(text: string): number {
  return wholeNumber(text, 0, 'a whole number of at least 0')
}

/** A number from 0 to 1. */
export function share(text: string): number {
  const allowed = 'a number from 0 to 1'
  const value = numberAtLeast(text, 0, allowed)
  if (value > 1) throw new InvalidArgumentError(`It must be ${allowed}.`)
  return value
}

/** Collects `key=value` options, one at a time, into one record. */
export function keyValue(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf('=')
  if (equals < 1) throw new InvalidArgumentError('It must be key=value.')
  return { ...earlier, [text.slice(0, equals)]: text.slice(equals + 1) }
}

export function anyNumber(text: string): number {
  return numberAtLeast(text, Number.NEGATIVE_INFINITY, 'a number')
}

/** One whole number for all layers, or a comma list with one for each: `16` or `40,30,20`. */
export function numberOrList(text: string): number | number[] {
  const allowed = 'a whole number, or a comma list of them, one per layer (40,30,20)'
  const values = text.split(',').map((part) => wholeNumber(part, 0, allowed))
  return text.includes(',') ? values : values[0]!
}

function wholeNumber(text: string, min: number, allowed: string): number {
  const value = numberAtLeast(text, min, allowed)
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError(`It must be ${allowed}.`)
  return value
}

function numberAtLeast(text: string, min: number, allowed: string): number {
  const value = Number(text)
  // Number('') is 0, which nobody means by an empty value.
  if (text.trim() === '' || !Number.isFinite(value) || value < min)
    throw new InvalidArgumentError(`It must be ${allowed}.`)
  return value
}

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
