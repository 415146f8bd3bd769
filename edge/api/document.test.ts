import { z } from '@hono/zod-openapi'
import { expect, test } from 'vitest'
import { fakeEdge, pngHeader, rawRequest } from '../app.fixture.ts'

const { app } = fakeEdge()
interface Operation {
  requestBody: { content: Record<string, unknown> }
  parameters: { name: string; required?: boolean; schema: unknown }[]
  responses: Record<string, unknown>
}

interface Document {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, unknown> }
}

const document = (await (await app.request('/openapi.json')).json()) as Document
const caption = document.paths['/v1/captions']!.post!

const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
  Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
)

test('every route is in the document, and nothing else', () => {
  const routes = app.routes
    .filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => `${method} ${path.replace(/:(\w+)(\{.*\})?/, '{$1}')}`)
  expect(documented.toSorted()).toEqual([...new Set(routes)].toSorted())
})

test('it is OpenAPI 3.1 and raw images are documented', () => {
  expect(document.openapi).toBe('3.1.0')
  const types = Object.keys(caption.requestBody.content)
  expect(types).toEqual(['application/json', 'image/*', 'application/octet-stream'])
})

test('what a key can be refused with is documented wherever one is asked for', () => {
  const guarded = Object.entries(document.paths).filter(([path]) => path.startsWith('/v1/'))
  for (const [path, operations] of guarded)
    for (const { responses } of Object.values(operations))
      expect(Object.keys(responses), path).toEqual(expect.arrayContaining(['401', '403', '500', '503']))
})

test('the limits that validate are the limits in the document', () => {
  expect(caption.parameters.find(({ name }) => name === 'max_prune')).toMatchObject({
    required: false,
    schema: { type: 'number', minimum: 0, maximum: 1 },
  })
  expect(document.components.schemas.CaptionRequest).toMatchObject({
    additionalProperties: false,
    required: ['image_url'],
    properties: { prompt: { type: 'string', maxLength: 100_000 } },
  })
})

const routes = app.openAPIRegistry.definitions.flatMap((definition) =>
  definition.type === 'route' ? [definition.route] : [],
)
const examples = routes.flatMap((route) =>
  [route.request?.body, ...Object.values(route.responses)].flatMap((part) =>
    Object.entries((part && 'content' in part && part.content) || {}).flatMap(([mediaType, media]) =>
      media && 'example' in media ? [{ name: `${route.method} ${route.path} ${mediaType}`, ...media }] : [],
    ),
  ),
)

test.each(examples)('the example of $name validates', ({ schema, example }) => {
  expect(schema).toBeInstanceOf(z.ZodType)
  expect((schema as z.ZodType).safeParse(example).error).toBeUndefined()
})

test('there are examples', () => expect(examples.length).toBeGreaterThan(15))

test('the index names addresses that are there, and a command that fits', async () => {
  const response = await app.request('http://localhost:9000/')
  const index = (await response.json()) as { addresses: Record<string, string>; try: string }
  expect(documented).toEqual(expect.arrayContaining(Object.keys(index.addresses)))
  expect(index.try).toContain('http://localhost:9000/v1/captions')
  expect((await app.request('/v1/captions', rawRequest(pngHeader()))).status).toBe(200)
})

type JsonSchema = Record<string, unknown> & { type?: string | string[] }

/** All schemas inside of a value of the document, with the pointers to them; references are followed. */
function* schemasIn(value: unknown, pointer: string): Generator<[pointer: string, schema: JsonSchema]> {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) yield [pointer, value as JsonSchema]
  for (const [key, child] of Object.entries(value))
    if (!/^examples?$/.test(key)) yield* schemasIn(child, `${pointer}/${key}`)
  const name = '$ref' in value && String(value.$ref).split('/').at(-1)
  if (name) yield* schemasIn(document.components.schemas[name], pointer)
}

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
)
const has = ({ type }: JsonSchema, name: string) => [type].flat().includes(name)

/** Headers that are ignored if they are not understood, as HTTP asks for; the server bounds them all together. */
const ignored = ['prefer', 'range']

test('every string, list and object of a request has a maximum', () => {
  const unbounded = operations.flatMap(({ name, operation: { parameters = [], requestBody } }) =>
    [
      ...schemasIn(
        parameters.filter((parameter) => !ignored.includes(parameter.name)),
        name,
      ),
      ...schemasIn(requestBody, name),
    ].filter(
      ([, schema]) =>
        (has(schema, 'string') &&
          !('enum' in schema || 'maxLength' in schema || schema.format === 'binary')) ||
        (has(schema, 'array') && !('maxItems' in schema)) ||
        (has(schema, 'object') && schema.additionalProperties !== false && !('maxProperties' in schema)),
    ),
  )
  expect(unbounded.map(([pointer]) => pointer)).toEqual([])
})

test('what may be null says so in a way that JSON Schema understands', () => {
  const lies = [...schemasIn(document, '')].filter(
    ([, schema]) =>
      // Null would have to be a File too, say.
      (Array.isArray(schema.allOf) && schema.allOf.some((part) => has(part, 'null'))) ||
      (has(schema, 'null') && Array.isArray(schema.enum) && !schema.enum.includes(null)),
  )
  expect(lies.map(([pointer]) => pointer)).toEqual([])
})

test('patterns mean the same in every language: no flags, and no classes that grow with Unicode', () => {
  const patterns = [...schemasIn(document, '')].flatMap(([, { pattern }]) =>
    typeof pattern === 'string' ? [pattern] : [],
  )
  expect(patterns.length).toBeGreaterThan(3)
  for (const pattern of patterns) {
    expect(pattern).toMatch(/^\^.*\$$/)
    expect(pattern).not.toMatch(/\\[dws]/)
  }
})
