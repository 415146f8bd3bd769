import { z } from '@hono/zod-openapi'
import { excerpt, invalid, type TurbineError } from './errors.ts'

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
  const param = nameOf([...issue.path, issue.keys[0]!])
  const allowed = Object.keys(schemaAt(schema, issue.path)?.properties ?? {})
  return invalid('unknown_parameter', `Unknown field "${param}". Allowed: ${allowed.join(', ')}.`, param)
}

function badValue(issue: z.core.$ZodIssue | undefined, schema: z.ZodType, value: unknown): TurbineError {
  const path = issue?.path ?? []
  const got = path.reduce<unknown>((parent, key) => (parent as Record<PropertyKey, unknown>)?.[key], value)
  const param = path.length === 0 ? undefined : nameOf(path)
  const subject = param === undefined ? 'The request' : `"${param}"`
  const allowed = describeAllowed(schemaAt(schema, path))
  if (got === undefined)
    return invalid('missing_required_parameter', `${subject} is missing. It must be ${allowed}.`, param)
  if (issue?.code === 'custom') return invalid('invalid_value', `${subject} ${issue.message}.`, param)
  const code = issue?.code === 'invalid_type' ? 'invalid_type' : 'invalid_value'
  return invalid(code, `${subject} must be ${allowed}, got ${describeValue(got)}.`, param)
}

/** Name of a field, shortened: keys can be as long as a body. */
const nameOf = (path: readonly PropertyKey[]) => excerpt(path.join('.'), 60)

/** Subschema at a path, as JSON Schema. */
function schemaAt(schema: z.ZodType, path: PropertyKey[]): JsonSchema | undefined {
  return path.reduce<JsonSchema | undefined>((node, key) => {
    const child =
      typeof key === 'number' ? node?.items : (node?.properties?.[String(key)] ?? node?.additionalProperties)
    return typeof child === 'object' && !Array.isArray(child) ? withoutNull(child as JsonSchema) : undefined
  }, jsonSchemaOf(schema))
}

const jsonSchemas = new WeakMap<z.ZodType, JsonSchema>()

/** Made once: a stranger can send invalid requests by the thousand. */
function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const known = jsonSchemas.get(schema)
  if (known) return known
  const made: JsonSchema = z.toJSONSchema(schema, { unrepresentable: 'any' })
  jsonSchemas.set(schema, made)
  return made
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
      return `an object${describeFields(schema)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return `an array${schema.maxItems === undefined ? '' : ` of at most ${schema.maxItems} items`}`
    default:
      return 'a valid value'
  }
}

function describeFields({ properties = {}, maxProperties }: JsonSchema): string {
  const names = Object.keys(properties)
  if (names.length > 0) return ` with the fields ${names.join(', ')}`
  return maxProperties === undefined ? '' : ` of at most ${maxProperties} fields`
}

const describeRange = ({ minimum, maximum }: JsonSchema) =>
  minimum === undefined || maximum === undefined ? '' : ` from ${minimum} to ${maximum}`

/** Longer than any text that is written by hand. */
const unstatedLength = 1_000_000

function describeString({ minLength, maxLength = unstatedLength }: JsonSchema): string {
  const length = maxLength < unstatedLength ? ` of at most ${maxLength} characters` : ''
  return `a ${minLength ? 'non-empty ' : ''}string${length}`
}

/** Never the whole value: it can be megabytes or deeply nested. */
function describeValue(value: unknown): string {
  if (typeof value === 'string') {
    const shown = value.length > 40 ? undefined : JSON.stringify(value)
    return shown === undefined || shown.length > 60 ? `a string of ${value.length} characters` : shown
  }
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}
