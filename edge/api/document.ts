import { type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { jsonResponse, operation } from './responses.ts'

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
  'GET /v1/captions/{id}': 'Retrieve the result of a 202 response.',
  'POST /v1/chat/completions': 'Caption an image with an OpenAI client.',
  'POST /v1/files': 'Upload the input of a batch.',
  'POST /v1/uploads': 'Upload a large file in parts.',
  'POST /v1/batches': 'Caption every image listed in a file or a bucket.',
  'GET /v1/batches/{id}': 'Retrieve the progress of a batch and its output files.',
  'GET /v1/models': 'List the served models and their prune levels.',
  'GET /health/ready': 'Check whether requests are accepted.',
  'GET /metrics': 'Metrics for Prometheus.',
  'GET /openapi.json': 'This API as OpenAPI 3.1.',
}

const getIndex = operation('get', '/', 'index', {
  summary: 'Index of the API',
  responses: {
    200: jsonResponse('The addresses, and a command to try.', indexSchema, {
      name: 'Turbine',
      version: '1.0.0',
      addresses,
      try: "curl --data-binary @photo.jpg -H 'content-type: image/jpeg' http://localhost:8787/v1/captions",
    }),
  },
})

const getDocument = operation('get', '/openapi.json', 'openapi', {
  summary: 'This document',
  responses: {
    200: {
      description: 'The API as OpenAPI 3.1.',
      content: { 'application/json': { schema: z.looseObject({ openapi: z.string() }) } },
    },
  },
})

/** `GET /`, for people, and `GET /openapi.json`, generated from the schemas that validate. */
export function addDocument(app: OpenAPIHono<EdgeEnv>, { version }: Pick<EdgeDeps, 'version'>): void {
  app.openapi(getIndex, (c) => {
    const curl = `curl --data-binary @photo.jpg -H 'content-type: image/jpeg' ${new URL('/v1/captions', c.req.url)}`
    return c.json({ name: 'Turbine', version, addresses, try: curl }, 200)
  })
  const key = app.openAPIRegistry.registerComponent('securitySchemes', 'apiKey', {
    type: 'http',
    scheme: 'bearer',
    description: 'An API key. A service without API keys accepts requests from its own machine only.',
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
