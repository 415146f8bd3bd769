import type { z } from '@hono/zod-openapi'
import { errorBodySchema } from '../contract/caption.ts'
import { type ErrorDetails, TurbineError } from '../contract/errors.ts'

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
