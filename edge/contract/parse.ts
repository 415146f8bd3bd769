import { z } from '@hono/zod-openapi'
import { nearest } from '../../infra/nearest.ts'
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
  const issue = meantIssue(result.error.issues[0]!)
  throw issue.code === 'unrecognized_keys' ? unknownField(issue, schema) : badValue(issue, schema, value)
}

type Issue = z.core.$ZodIssue

/** Of a union, the issue of the branch that was meant: the one that the value fits furthest. */
function meantIssue(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue
  const fitOf = ({ path, code }: Issue) => 2 * path.length + (code === 'invalid_type' ? 0 : 1)
  const ofBranches = issue.errors.flatMap(([first]) => (first ? [meantIssue(first)] : []))
  const [best] = ofBranches.toSorted((a, b) => fitOf(b) - fitOf(a))
  return best && fitOf(best) > 0 ? { ...best, path: [...issue.path, ...best.path] } : issue
}

/** A parameter that does not exist, in OpenAI's words. */
export function unknownParameter(name: string, known: readonly string[]): TurbineError {
  const param = excerpt(name, 60)
  return invalid(
    'unknown_parameter',
    `Unrecognized request argument supplied: ${param}.${guess(name, known)}`,
    param,
  )
}

function guess(name: string, names: readonly string[]): string {
  const meant = nearest(name, names)
  return meant === undefined ? '' : ` Did you mean "${meant}"?`
}

function unknownField(issue: z.core.$ZodIssueUnrecognizedKeys, schema: z.ZodType): TurbineError {
  const [name] = issue.keys as [string]
  const param = nameOf([...issue.path, name])
  const allowed = branchesOf(schemaAt(schema, issue.path)).flatMap((branch) =>
    Object.keys(branch.properties ?? {}),
  )
  const message = `Unknown field "${param}".${guess(name, allowed)} Allowed: ${allowed.join(', ')}.`
  return invalid('unknown_parameter', message, param)
}

function badValue(issue: Issue, schema: z.ZodType, value: unknown): TurbineError {
  const { path } = issue
  const got = path.reduce<unknown>((parent, key) => (parent as Record<PropertyKey, unknown>)?.[key], value)
  const param = path.length === 0 ? undefined : nameOf(path)
  const subject = param === undefined ? 'The request' : `"${param}"`
  const allowed = describeAllowed(schemaAt(schema, path), got)
  if (got === undefined)
    return invalid('missing_required_parameter', `${subject} is missing. It must be ${allowed}.`, param)
  if (issue.code === 'custom') return invalid('invalid_value', `${subject} ${issue.message}.`, param)
  const isType = issue.code === 'invalid_type' || issue.code === 'invalid_union'
  const code = isType ? 'invalid_type' : 'invalid_value'
  return invalid(code, `${subject} must be ${allowed}, got ${describeValue(got)}.`, param)
}

/** Name of a field, shortened: keys can be as long as a body. */
const nameOf = (path: readonly PropertyKey[]) => excerpt(path.join('.'), 60)

/** Subschema at a path, as JSON Schema. */
const schemaAt = (schema: z.ZodType, path: PropertyKey[]): JsonSchema | undefined =>
  path.reduce<JsonSchema | undefined>((node, key) => {
    const children = branchesOf(node).map((branch) =>
      typeof key === 'number'
        ? branch.items
        : (branch.properties?.[String(key)] ?? branch.additionalProperties),
    )
    return children.find((child): child is JsonSchema => typeof child === 'object' && !Array.isArray(child))
  }, jsonSchemaOf(schema))

const jsonSchemas = new WeakMap<z.ZodType, JsonSchema>()

/** Made once: a stranger can send invalid requests by the thousand. */
function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const known = jsonSchemas.get(schema)
  if (known) return known
  const made: JsonSchema = z.toJSONSchema(schema, { unrepresentable: 'any' })
  jsonSchemas.set(schema, made)
  return made
}

/** What a value may be, without `null`, which counts as left out. */
function branchesOf(schema: JsonSchema | undefined): JsonSchema[] {
  if (!schema) return []
  const union = schema.anyOf ?? schema.oneOf
  if (union) return union.flatMap((branch) => branchesOf(branch as JsonSchema))
  const types = [schema.type].flat()
  return types.filter((type) => type !== 'null').map((type) => ({ ...schema, type }))
}

const typeOf = (value: unknown) => (Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value)

/** Of a union, the branches of the value's type, or all of them. */
function describeAllowed(schema: JsonSchema | undefined, got: unknown): string {
  const branches = branchesOf(schema)
  const alike = branches.filter(({ type }) => type === typeOf(got))
  const described = (alike.length > 0 ? alike : branches).map((branch) => describeOne(branch, got))
  return described.length === 0 ? 'a valid value' : [...new Set(described)].join(' or ')
}

function describeOne(schema: JsonSchema, got: unknown): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum) return `one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`
  switch (schema.type) {
    case 'number':
      return `a number${describeRange(schema, got)}`
    case 'integer':
      return `an integer${describeRange(schema, got)}`
    case 'string':
      return describeString(schema)
    case 'object':
      return `an object${describeFields(schema)}`
    case 'boolean':
      return 'true or false'
    case 'array':
      return `an array${describeItems(schema)}`
    default:
      return 'a valid value'
  }
}

function describeFields({ properties = {}, maxProperties }: JsonSchema): string {
  const names = Object.keys(properties)
  if (names.length > 0) return ` with the field${names.length > 1 ? 's' : ''} ${names.join(', ')}`
  return maxProperties === undefined ? '' : ` of at most ${maxProperties} fields`
}

const describeItems = ({ minItems, maxItems }: JsonSchema) =>
  maxItems === undefined ? '' : ` of ${minItems ? `${minItems} to` : 'at most'} ${maxItems} items`

/** The largest number is told to whom it concerns. */
function describeRange({ minimum, maximum }: JsonSchema, got: unknown): string {
  if (minimum === undefined) return ''
  const isFar = maximum === undefined || (maximum >= Number.MAX_SAFE_INTEGER && !(Number(got) > maximum))
  return isFar ? ` of at least ${minimum}` : ` from ${minimum} to ${maximum}`
}

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
  if (Array.isArray(value)) {
    if (value.length === 0) return 'an empty array'
    return `an array of ${value.length} item${value.length > 1 ? 's' : ''}`
  }
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}
