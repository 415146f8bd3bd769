import { z } from '@hono/zod-openapi'
import { TurbineError } from './errors.ts'

type JsonSchema = z.core.JSONSchema.BaseSchema

/**
 * A value that came from outside, checked and typed.
 *
 * @throws TurbineError `missing_required_parameter`, `unknown_parameter`, `invalid_type` or `invalid_value`:
 * one sentence that names the field, what is allowed there and what came, with the field as `param`.
 *
 * @example parse(captionRequestSchema, { image_url: 'data:...', turbine: { max_prune: 2 } })
 * // "turbine.max_prune" must be a number from 0 to 1, but 2 came.
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
  return new TurbineError(`There is no field "${shorten(param)}". Allowed are ${allowed.join(', ')}.`, {
    status: 400,
    code: 'unknown_parameter',
    param: shorten(param),
  })
}

function badValue(issue: z.core.$ZodIssue | undefined, schema: z.ZodType, value: unknown): TurbineError {
  const path = issue?.path ?? []
  const came = path.reduce<unknown>((parent, key) => (parent as Record<PropertyKey, unknown>)?.[key], value)
  const subject = path.length === 0 ? 'The request' : `"${path.join('.')}"`
  const param = path.length === 0 ? undefined : path.join('.')
  const allowed = describeAllowed(schemaAt(schema, path))
  if (came === undefined)
    return new TurbineError(`${subject} is missing. It must be ${allowed}.`, {
      status: 400,
      code: 'missing_required_parameter',
      param,
    })
  return new TurbineError(`${subject} must be ${allowed}, but ${describeValue(came)} came.`, {
    status: 400,
    code: issue?.code === 'invalid_type' ? 'invalid_type' : 'invalid_value',
    param,
  })
}

/** The part of a schema that a path leads to, as JSON Schema. */
function schemaAt(schema: z.ZodType, path: PropertyKey[]): JsonSchema | undefined {
  const root: JsonSchema = z.toJSONSchema(schema, { unrepresentable: 'any' })
  return path.reduce<JsonSchema | undefined>((node, key) => {
    const child =
      typeof key === 'number' ? node?.items : (node?.properties?.[String(key)] ?? node?.additionalProperties)
    return typeof child === 'object' && !Array.isArray(child) ? withoutNull(child as JsonSchema) : undefined
  }, root)
}

/** The one thing that a field may hold beside null. */
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

/** Never the whole of it: the value is a caller's and can be megabytes or nested without end. */
function describeValue(value: unknown): string {
  if (typeof value === 'string')
    return value.length > 40 ? `a string of ${value.length} characters` : JSON.stringify(value)
  if (Array.isArray(value)) return 'an array'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

const shorten = (text: string) => (text.length > 80 ? `${text.slice(0, 79)}…` : text)
