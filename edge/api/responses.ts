import { createRoute, type OpenAPIHono, type RouteConfig, z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { type Caption, errorBodySchema } from '../contract/caption.ts'
import { type ErrorDetails, excerpt, invalid, TurbineError } from '../contract/errors.ts'
import { ignoredHeader } from '../contract/parameters.ts'
import type { EdgeEnv } from '../deps.ts'
import { maxJsonBytes } from './read.ts'

/**
 * Describes an operation for OpenAPI, tagged with the resource in its path.
 * @example const getFile = operation('get', '/v1/files/{id}', 'getFile', { summary, request: { params }, responses })
 */
export const operation = <
  const Method extends RouteConfig['method'],
  const Path extends string,
  Rest extends Omit<RouteConfig, 'method' | 'path' | 'operationId' | 'tags'>,
>(
  method: Method,
  path: Path,
  operationId: string,
  rest: Rest,
) => {
  const tag = path.startsWith('/v1/') ? path.split('/')[2]! : 'operation'
  return createRoute({ ...rest, method, path, operationId, tags: [tag] })
}

/**
 * Adds an operation to the OpenAPI document, with the errors of a body if it takes one. An operation without a query has
 * any parameter in it refused.
 * @returns its path for the router
 */
export function documented<Path extends string>(
  app: OpenAPIHono<EdgeEnv>,
  route: RouteConfig & { getRoutingPath(): Path },
): Path {
  const { body, query } = route.request ?? {}
  const responses = {
    ...(query ? {} : { 400: unknownQuery }),
    ...(body ? { 408: bodyTooSlow, 415: encodingUnsupported } : {}),
    ...route.responses,
  }
  app.openAPIRegistry.registerPath({ ...route, responses })
  const path = route.getRoutingPath()
  if (!query) app.on(route.method.toUpperCase(), path, refuseQuery)
  return path
}

/** @throws TurbineError `unknown_parameter` */
const refuseQuery: MiddlewareHandler<EdgeEnv> = async (c, next) => {
  const [name] = Object.keys(c.req.query())
  if (name === undefined) return next()
  const param = excerpt(name, 60)
  throw invalid('unknown_parameter', `"${param}" is no parameter of this address, which takes none.`, param)
}

export const idParams = (example: string) =>
  z.object({
    id: z
      .string()
      .max(150)
      .regex(/^[A-Za-z0-9_-]+$/)
      .openapi({ example }),
  })

/** A proxy may leave out the spaces around it. */
const idempotencyKeySchema = z
  .string()
  .max(255)
  .regex(/^[!-~]([ -~]*[!-~])?$/)

export const idempotencyHeader = (description: string) =>
  z.object({ 'idempotency-key': idempotencyKeySchema.optional().openapi({ description }) })

export const jsonBody = <Schema extends z.ZodType>(schema: Schema, example: z.input<Schema>) => ({
  required: true,
  content: { 'application/json': { schema, example } },
})

export const jsonResponse = <Schema extends z.ZodType>(
  description: string,
  schema: Schema,
  example: z.input<Schema>,
) => ({ description, content: { 'application/json': { schema, example } } })

/** Names what a response was made without. */
export const ignoredHeaders = {
  [ignoredHeader]: {
    description:
      'Parameters of the request that the service is set to ignore, comma-separated; absent: none.',
    schema: { type: 'string' as const },
  },
}

const retryAfter = {
  'Retry-After': {
    description: 'Seconds to wait before a retry.',
    schema: { type: 'integer' as const },
  },
}

/** Describes an error response by an error as it would be thrown. */
export function errorResponse(
  status: ErrorDetails['status'],
  code: string,
  message: string,
  description = message,
) {
  const example = new TurbineError(message, { status, code }).toBody()
  const response = jsonResponse(description, errorBodySchema, example)
  return status === 429 || status === 503 ? { ...response, headers: retryAfter } : response
}

const unknownQuery = errorResponse(
  400,
  'unknown_parameter',
  '"limit" is no parameter of this address, which takes none.',
)

const bodyTooSlow = errorResponse(
  408,
  'body_too_slow',
  'The body arrives too slowly. Retry the request on a faster line.',
)

const encodingUnsupported = errorResponse(
  415,
  'content_encoding_unsupported',
  'The Content-Encoding compress is not accepted. Send one of gzip, deflate, br, zstd, or none.',
)

/** Errors of every route that needs an API key and the store. */
export const serviceErrors = {
  401: errorResponse(401, 'invalid_api_key', 'The API key is wrong or was revoked.'),
  403: errorResponse(
    403,
    'keys_required',
    'This service has no API keys yet, so it accepts requests from its own machine only.',
  ),
  429: errorResponse(
    429,
    'rate_limit_exceeded',
    'This tenant has reached its requests per minute. Retry in 2 s.',
  ),
  500: errorResponse(500, 'internal_error', 'Internal error.'),
  503: errorResponse(
    503,
    'store_unavailable',
    'The object store is unavailable. Retry the request.',
    'The service is unavailable.',
  ),
}

/** Errors of an `Idempotency-Key` whose retries must have the same body. */
export const idempotencyErrors = {
  409: errorResponse(
    409,
    'idempotency_key_in_use',
    'A request with this Idempotency-Key is still in progress. Retry the request.',
  ),
  422: errorResponse(
    422,
    'idempotency_key_reused',
    'This Idempotency-Key was used with another request. Use a new key for each new request.',
  ),
}

export const jsonTooLarge = errorResponse(
  413,
  'body_too_large',
  `The body is larger than ${maxJsonBytes} bytes.`,
)

export const imageTooLarge = errorResponse(
  413,
  'image_too_large',
  'The image has 300 megapixels; at most 250 are accepted (TURBINE_MAX_PIXELS).',
  'The body has too many bytes, the image too many pixels, or decoding it takes too much (`image_too_complex`).',
)

export const modelNotFound = errorResponse(
  404,
  'model_not_found',
  'There is no model "other". Served: starter.',
)

export const contentTypeMissing = errorResponse(
  415,
  'content_type_unsupported',
  'The content type is missing.',
)

/** A rejected caption request. */
export const rejected = errorResponse(
  429,
  'overloaded',
  'The service is overloaded and cannot respond in time. Retry in 2 s.',
  'The request would miss its deadline (`overloaded`), the queue is full (`queue_full`), or the tenant has reached its requests per minute (`rate_limit_exceeded`), its requests in flight (`too_many_in_flight`) or its share of the memory (`too_many_bytes_in_flight`).',
)

/** Responds with the status and the error of a failed caption. */
export function answerFailed(
  c: Context<EdgeEnv>,
  { http_status, error, retry_after }: Extract<Caption, { status: 'failed' }>,
): Response {
  if (retry_after !== undefined) c.header('Retry-After', String(retry_after))
  return c.json({ error }, http_status as ContentfulStatusCode)
}

export const storageFull = errorResponse(
  403,
  'storage_limit_exceeded',
  'The storage limit of this tenant is 1000000000 bytes, of which 999999000 are used. Delete files that are no longer needed (DELETE /v1/files/{id}), or ask the operator for more.',
)
