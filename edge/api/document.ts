import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { jsonResponse } from './responses.ts'

const indexSchema = z
  .object({
    name: z.string(),
    version: z.string(),
    addresses: z.record(z.string(), z.string()),
    try: z.string(),
  })
  .openapi('Index')

const addresses = {
  'POST /v1/captions': 'Caption an image: its bytes, or JSON with image_url.',
  'GET /v1/captions/{id}': 'The result of a request that was answered with 202.',
  'POST /v1/chat/completions': 'The same for clients that speak to OpenAI.',
  'POST /v1/files': 'Upload the input of a batch.',
  'POST /v1/uploads': 'The same in parts, for large files.',
  'POST /v1/batches': 'Caption every image that a file or a bucket names.',
  'GET /v1/batches/{id}': 'How far a batch is, and where its output is.',
  'GET /v1/models': 'The served models and their prune levels.',
  'GET /health/ready': 'Whether requests are taken.',
  'GET /metrics': 'Metrics for Prometheus.',
  'GET /openapi.json': 'All of this as OpenAPI 3.1.',
}

const getIndex = createRoute({
  method: 'get',
  path: '/',
  operationId: 'index',
  tags: ['operation'],
  summary: 'What there is',
  responses: {
    200: jsonResponse('The addresses, and a command to try.', indexSchema, {
      name: 'Turbine',
      version: '1.0.0',
      addresses,
      try: "curl --data-binary @photo.jpg -H 'content-type: image/jpeg' http://localhost:8787/v1/captions",
    }),
  },
})

const getDocument = createRoute({
  method: 'get',
  path: '/openapi.json',
  operationId: 'openapi',
  tags: ['operation'],
  summary: 'This document',
  responses: {
    200: {
      description: 'The API as OpenAPI 3.1.',
      content: { 'application/json': { schema: z.looseObject({ openapi: z.string() }) } },
    },
  },
})

/** `GET /`, for people who look, and `GET /openapi.json`, made from the schemas that validate. */
export function addDocument(app: OpenAPIHono<EdgeEnv>, { version }: Pick<EdgeDeps, 'version'>): void {
  app.openapi(getIndex, (c) => {
    const curl = `curl --data-binary @photo.jpg -H 'content-type: image/jpeg' ${new URL('/v1/captions', c.req.url)}`
    return c.json({ name: 'Turbine', version, addresses, try: curl }, 200)
  })
  const key = app.openAPIRegistry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key. A service without any answers its own machine only.',
  })
  app.openapi(getDocument, (c) => {
    const document = app.getOpenAPI31Document({
      openapi: '3.1.0',
      info: { title: 'Turbine', version, description: 'Captions images, pruning image tokens by load.' },
      servers: [{ url: '/' }],
      security: [{ [key.name]: [] }, {}],
    })
    return c.json({ ...document }, 200)
  })
}
