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
    properties: { prompt: { type: 'string', maxLength: 200 } },
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
