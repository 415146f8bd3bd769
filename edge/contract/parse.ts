import { z } from '@hono/zod-openapi'
import { invalid, type TurbineError } from './errors.ts'

type JsonSchema = z.core.JSONSchema.BaseSchema

/**
 * Validates a value from outside.
 *
 * @throws TurbineError `missing_required_parameter`, `unknown_parameter`, `invalid_type` or `invalid_value`:
 * one sentence that names the field, what is allowed and what was sent, with the field as `param`.
 *
 * @example parse(captionRequestSchema, { image_url: 'data:...', turbine: { max_prune: 2 } })
 * // "turbine.max_prune" must be a number from 0 to 1, got 2.
 */
export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw issue?.code === 'unrecognized_keys' ? unknownField(issue, schema) : badValue(issue, schema, value)
}

function unknownField(issue: z.core.$ZodIssueUnrecognizedKeys, schema: z.ZodType): TurbineError {
  const param = [...issue.path, issue.keys[0]].join('.')
  const allowed = Object.keys(schemaAt(schema, issue.path)?.properties ?? {})
  const message = `Unknown field "${shorten(param)}". Allowed: ${allowed.join(', ')}.`
  return invalid('unknown_parameter', message, shorten(param))
}

function badValue(issue: z.core.$ZodIssue | undefined, schema: z.ZodType, value: unknown): TurbineError {
  const path = issue?.path ?? []
  const got = path.reduce<unknown>((parent, key) => (parent as Record<PropertyKey, unknown>)?.[key], value)
  const subject = path.length === 0 ? 'The request' : `"${path.join('.')}"`
  const param = path.length === 0 ? undefined : path.join('.')
  const allowed = describeAllowed(schemaAt(schema, path))
  if (got === undefined)
    return invalid('missing_required_parameter', `${subject} is missing. It must be ${allowed}.`, param)
  const code = issue?.code === 'invalid_type' ? 'invalid_type' : 'invalid_value'
  return invalid(code, `${subject} must be ${allowed}, got ${describeValue(got)}.`, param)
}

/** Subschema at a path, as JSON Schema. */
function schemaAt(schema: z.ZodType, path: PropertyKey[]): JsonSchema | undefined {
  const root: JsonSchema = z.toJSONSchema(schema, { unrepresentable: 'any' })
  return path.reduce<JsonSchema | undefined>((node, key) => {
    const child =
      typeof key === 'number' ? node?.items : (node?.properties?.[String(key)] ?? node?.additionalProperties)
    return typeof child === 'object' && !Array.isArray(child) ? withoutNull(child as JsonSchema) : undefined
  }, root)
}

/** Unwraps a nullable schema. */
function withoutNull(schema: JsonSchema): JsonSchema {
  const [other, ...more] = schema.anyOf?.filter(({ type }) => type !== 'null') ?? []
  return other && more.length === 0 ? other : schema
}

function describeAllowed(schema: JsonSchema | undefined): string {
  if (schema?.const !== undefined) return JSON.stringify(schema.const)
  if (schema?.enum) return `one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`
  switch (schema?.type) {
    case 'number':
      return `a number${describeRange(schema)}`
    case 'integer':
      return `an integer${describeRange(schema)}`
    case 'string':
      return describeString(schema)
    case 'object':
      return `an object${describeFields(Object.keys(schema.properties ?? {}))}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return 'an array'
    default:
      return 'a valid value'
  }
}

const describeFields = (names: string[]) => (names.length === 0 ? '' : ` with the fields ${names.join(', ')}`)

const describeRange = ({ minimum, maximum }: JsonSchema) =>
  minimum === undefined || maximum === undefined ? '' : ` from ${minimum} to ${maximum}`

const describeString = ({ minLength, maxLength }: JsonSchema) =>
  `a ${minLength ? 'non-empty ' : ''}string${maxLength === undefined ? '' : ` of at most ${maxLength} characters`}`

/** Never the whole value: it can be megabytes or deeply nested. */
function describeValue(value: unknown): string {
  if (typeof value === 'string')
    return value.length > 40 ? `a string of ${value.length} characters` : JSON.stringify(value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

const shorten = (text: string) => (text.length > 80 ? `${text.slice(0, 79)}…` : text)
