import { createRoute, z } from '@hono/zod-openapi'
import {
  type Caption,
  captionRequestSchema,
  captionSchema,
  maxBodyBytes,
  turbineOptionsSchema,
} from '../../contract/caption.ts'
import { fromText } from '../read.ts'
import {
  errorResponse,
  idempotencyErrors,
  imageTooLarge,
  jsonResponse,
  serviceErrors,
  turnedAway,
} from '../responses.ts'

/** The options of a request whose body is the image itself. */
export const captionQuerySchema = z.strictObject({
  model: captionRequestSchema.shape.model,
  prompt: captionRequestSchema.shape.prompt,
  max_prune: fromText(turbineOptionsSchema.shape.max_prune),
  deadline_ms: fromText(turbineOptionsSchema.shape.deadline_ms),
})

export const captionIdPattern = /^[\w-]{1,128}$/

export const captionExample = {
  id: 'cap_8f14e45f',
  object: 'caption',
  status: 'completed',
  created: 1_790_000_000,
  caption: 'a large orange fish between two clouds',
  turbine: {
    prune_level: 0,
    prune_ratio: 0,
    tokens_in: 577,
    tokens_out: 577,
    output_tokens: 9,
    queue_ms: 1.2,
    inference_ms: 84.5,
    model: 'starter',
  },
} satisfies Caption

const queuedExample = {
  id: captionExample.id,
  object: 'caption',
  status: 'queued',
  created: captionExample.created,
} satisfies Caption

const rawImage = {
  schema: z.string().openapi({ format: 'binary', description: "The image's bytes." }),
}

const queuedHeaders = {
  Location: { description: 'The address of the result.', schema: { type: 'string' as const } },
  'Retry-After': { description: 'Seconds to the next look.', schema: { type: 'integer' as const } },
  'Preference-Applied': { description: '`respond-async`, if asked.', schema: { type: 'string' as const } },
}

const queued = { ...jsonResponse('The caption is not there yet.', captionSchema, queuedExample) }

const unavailable = errorResponse(
  503,
  'stream_unavailable',
  'The job stream cannot take requests now. Send the request again.',
  'The service cannot take requests now.',
)

export const createCaption = createRoute({
  method: 'post',
  path: '/v1/captions',
  operationId: 'createCaption',
  tags: ['captions'],
  summary: 'Caption an image',
  description:
    'Send the bytes of a JPEG, PNG, WebP, GIF, TIFF or AVIF image, with options in the query, or JSON that says where the image is. ' +
    "The answer is held until the caption is there or the deadline is past; with `Prefer: respond-async`, or past the deadline, it is 202 with the result's address.",
  request: {
    query: captionQuerySchema,
    headers: z.object({
      prefer: z.string().optional().openapi({ description: '`respond-async`: an address at once.' }),
      'idempotency-key': z.string().optional().openapi({
        description:
          'A repeat with the same key and body is answered as the first request, and not run again.',
      }),
    }),
    body: {
      required: true,
      description: `At most ${maxBodyBytes} bytes.`,
      content: {
        'application/json': {
          schema: captionRequestSchema,
          example: { image_url: 'https://example.com/photo.jpg', turbine: { max_prune: 0.5 } },
        },
        'image/*': rawImage,
        'application/octet-stream': rawImage,
      },
    },
  },
  responses: {
    200: jsonResponse('The caption.', captionSchema, captionExample),
    202: { ...queued, headers: queuedHeaders },
    400: errorResponse(
      400,
      'invalid_value',
      '"turbine.max_prune" must be a number from 0 to 1, but 2 came.',
      'A field is missing, unknown or wrong, or the image is empty, broken or out of reach.',
    ),
    401: serviceErrors[401],
    403: errorResponse(
      403,
      's3_not_granted',
      'This tenant may not read s3://photos/a.jpg.',
      'The image lies where the tenant may not read, or the service takes no requests from elsewhere.',
    ),
    404: errorResponse(404, 'model_not_found', 'There is no model "other". Served: starter.'),
    ...idempotencyErrors,
    413: imageTooLarge,
    415: errorResponse(
      415,
      'image_invalid',
      'This is not an image in a format that is accepted (JPEG, PNG, WebP, GIF, TIFF, AVIF).',
      'The content type or the image format is not accepted.',
    ),
    429: turnedAway,
    500: serviceErrors[500],
    503: unavailable,
  },
})

export const getCaption = createRoute({
  method: 'get',
  path: '/v1/captions/{id}',
  operationId: 'getCaption',
  tags: ['captions'],
  summary: 'The result of a request that was answered with 202',
  description: 'A caption that failed is answered with the status and error of its failure.',
  request: { params: z.object({ id: z.string().openapi({ example: captionExample.id }) }) },
  responses: {
    200: jsonResponse('The caption.', captionSchema, captionExample),
    202: { ...queued, headers: { 'Retry-After': queuedHeaders['Retry-After'] } },
    400: errorResponse(400, 'image_invalid', 'The image is cut off.', 'The image could not be captioned.'),
    401: serviceErrors[401],
    403: serviceErrors[403],
    404: errorResponse(404, 'caption_not_found', 'There is no caption "cap_1".'),
    500: serviceErrors[500],
    503: unavailable,
  },
})
