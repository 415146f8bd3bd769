import type { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { type Caption, errorBodySchema } from '../contract/caption.ts'
import { type ErrorDetails, TurbineError } from '../contract/errors.ts'
import type { EdgeEnv } from '../deps.ts'

/** Documents a JSON answer with an example of it. */
export const jsonResponse = <Schema extends z.ZodType>(
  description: string,
  schema: Schema,
  example: z.input<Schema>,
) => ({ description, content: { 'application/json': { schema, example } } })

const retryAfter = {
  'Retry-After': {
    description: 'Seconds after which a repeat makes sense.',
    schema: { type: 'integer' as const },
  },
}

/** Documents an error answer, by an error as it would be thrown. */
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

/** What every route that needs a key and the store can answer. */
export const serviceErrors = {
  401: errorResponse(401, 'invalid_api_key', 'The API key is wrong or was revoked.'),
  403: errorResponse(
    403,
    'keys_required',
    'This service has no API keys yet, so it answers programs on its own machine only.',
  ),
  429: errorResponse(
    429,
    'rate_limit_exceeded',
    'This tenant has sent its requests of this minute. Send this one again in 2 s.',
  ),
  500: errorResponse(500, 'internal_error', 'Something failed inside the service.'),
  503: errorResponse(
    503,
    'store_unavailable',
    'The object store cannot be reached now. Send the request again.',
    'The service cannot work now.',
  ),
}

/** What an `Idempotency-Key` can lead to, where repeats must have the same body. */
export const idempotencyErrors = {
  409: errorResponse(
    409,
    'idempotency_key_in_use',
    'A request with this Idempotency-Key is still at work. Send the request again.',
  ),
  422: errorResponse(
    422,
    'idempotency_key_reused',
    'This Idempotency-Key came with another request before. Use a new key for each new request.',
  ),
}

export const imageTooLarge = errorResponse(
  413,
  'image_too_large',
  'The image has 100 megapixels; at most 64 are accepted.',
  'The body has too many bytes or the image too many pixels.',
)

/** What a caption that is not taken is answered with. */
export const turnedAway = errorResponse(
  429,
  'overloaded',
  'The service has too much work to answer in time. Send the request again in 2 s.',
  'The work before it would make it late (`overloaded`), the queue is full (`queue_full`), or the tenant has sent its requests of this minute (`rate_limit_exceeded`).',
)

/** Answers with the status and the error of a caption that failed. */
export function answerFailed(
  c: Context<EdgeEnv>,
  { http_status, error, retry_after }: Extract<Caption, { status: 'failed' }>,
): Response {
  if (retry_after !== undefined) c.header('Retry-After', String(retry_after))
  return c.json({ error }, http_status as ContentfulStatusCode)
}
