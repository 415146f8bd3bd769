import { InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { parseS3Uri, tenantSchema } from '../../edge/contract/tenant.ts'

/** Parsers of option values for commander. */

const parser = <T>(schema: z.ZodType<T, number>, allowed: string) => {
  // Number('') is 0, which nobody means by an empty value.
  const text = z.string().trim().min(1).transform(Number).pipe(schema)
  return (value: string): T => {
    const parsed = text.safeParse(value)
    if (parsed.success) return parsed.data
    throw new InvalidArgumentError(`It must be ${allowed}.`)
  }
}

export const anyNumber = parser(z.number(), 'a number')
export const positive = parser(z.number().positive(), 'a number above 0')
export const share = parser(z.number().min(0).max(1), 'a number from 0 to 1')
export const count = parser(z.int().min(1), 'a whole number of at least 1')
export const index = parser(z.int().min(0), 'a whole number of at least 0')
const layer = parser(z.int().min(0), 'a whole number, or a comma list of them, one per layer (40,30,20)')

/** One whole number for all layers, or a comma list with one per layer: `16` or `40,30,20`. */
export function numberOrList(text: string): number | number[] {
  const values = text.split(',').map(layer)
  return text.includes(',') ? values : values[0]!
}

/** Collects repeated `key=value` options into one record. */
export function keyValue(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf('=')
  if (equals < 1) throw new InvalidArgumentError('It must be key=value.')
  return { ...earlier, [text.slice(0, equals)]: text.slice(equals + 1) }
}

export function tenantName(text: string): string {
  if (tenantSchema.shape.id.safeParse(text).success) return text
  throw new InvalidArgumentError('It must be 1 to 63 lower-case letters, digits, "-" and "_", such as acme.')
}

/** Collects URIs to grant: `s3://bucket/prefix/` for a prefix, without the trailing slash for one object. */
export function grantUris(text: string, earlier: string[] = []): string[] {
  try {
    parseS3Uri(text)
  } catch {
    throw new InvalidArgumentError('It must be like s3://bucket/prefix/, or s3://bucket/key for one object.')
  }
  // A bucket without a slash would grant no object in it.
  return [...earlier, /^s3:\/\/[^/]+$/.test(text) ? `${text}/` : text]
}

const limit = parser(z.int().min(1), 'a whole number of at least 1, or none')

export const limitOrNone = (text: string): number | 'none' => (text === 'none' ? text : limit(text))

const byteUnits: Record<string, number> = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 }

/** Parses `500MB` or `20GB`, in powers of 1000. */
export function bytesOrNone(text: string): number | 'none' {
  if (text === 'none') return text
  const [, count, unit = 'B'] = /^([1-9]\d{0,8})(B|KB|MB|GB|TB)?$/i.exec(text) ?? []
  if (count !== undefined) return Number(count) * byteUnits[unit.toUpperCase()]!
  throw new InvalidArgumentError('It must be bytes as 500MB or 20GB, or none.')
}
