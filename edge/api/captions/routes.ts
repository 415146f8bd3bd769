import { z } from '@hono/zod-openapi'
import {
  type Caption,
  captionRequestSchema,
  captionSchema,
  maxBodyBytes,
  maxJsonImageBytes,
  maxTokensSchema,
  stopSchema,
  turbineOptionsSchema,
} from '../../contract/caption.ts'
import { type GenerationName, generationFields } from '../../contract/generation.ts'
import { acceptedNames } from '../../contract/image.ts'
import { fromText } from '../read.ts'
import {
  errorResponse,
  idempotencyErrors,
  idempotencyHeader,
  idParams,
  ignoredHeaders,
  imageTooLarge,
  jsonResponse,
  modelNotFound,
  operation,
  rejected,
  serviceErrors,
} from '../responses.ts'

const generationQuery = Object.fromEntries(
  Object.entries(generationFields).map(([name, schema]) => [
    name,
    fromText(schema.unwrap().unwrap().optional()),
  ]),
) as unknown as Record<GenerationName, z.ZodOptional<z.ZodNumber>>

/** Characters of a text in the query: a server's heads have 16 KiB, of which each can take twelve bytes. */
const maxQueryText = 1000

/** Options of a request whose body is the image. */
export const captionQuerySchema = z.strictObject({
  model: captionRequestSchema.shape.model,
  prompt: z
    .string()
    .max(maxQueryText)
    .optional()
    .openapi({
      description: `As in JSON, of at most ${maxQueryText} characters here.`,
    }),
  max_tokens: fromText(maxTokensSchema.optional()),
  stop: stopSchema.optional(),
  ...generationQuery,
  task: turbineOptionsSchema.shape.task,
  max_pixels: fromText(turbineOptionsSchema.shape.max_pixels),
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
  finish_reason: 'stop',
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
  Location: { description: 'URL of the result.', schema: { type: 'string' as const } },
  'Retry-After': { description: 'Seconds to wait before polling.', schema: { type: 'integer' as const } },
  'Preference-Applied': {
    description: '`respond-async`, if requested.',
    schema: { type: 'string' as const },
  },
}

const queued = jsonResponse('The caption is not ready yet.', captionSchema, queuedExample)

const unavailable = errorResponse(
  503,
  'stream_unavailable',
  'The job stream is unavailable. Retry the request.',
  'The service is unavailable.',
)

export const createCaption = operation('post', '/v1/captions', 'createCaption', {
  summary: 'Caption an image',
  description:
    `Send the bytes of an image (${acceptedNames}), with options in the query, or JSON with the URL of the image. ` +
    'The response is held until the caption is ready or the deadline passes; after the deadline, or with `Prefer: respond-async`, it is 202 with the URL of the result. Accepted (202) requests always complete.',
  request: {
    query: captionQuerySchema,
    headers: idempotencyHeader(
      'A retry with the same key and body gets the response of the first request and is not run again.',
    ).extend({
      prefer: z.string().optional().openapi({
        description: '`respond-async`: respond with 202 at once. Others are ignored.',
      }),
    }),
    body: {
      required: true,
      description: `At most ${maxBodyBytes} bytes, or ${maxJsonImageBytes} of JSON.`,
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
    200: { ...jsonResponse('The caption.', captionSchema, captionExample), headers: ignoredHeaders },
    202: { ...queued, headers: { ...queuedHeaders, ...ignoredHeaders } },
    400: errorResponse(
      400,
      'invalid_value',
      '"turbine.max_prune" must be a number from 0 to 1, got 2.',
      'A field is missing, unknown or invalid, or the image is empty, broken or unreachable.',
    ),
    404: modelNotFound,
    413: imageTooLarge,
    415: errorResponse(
      415,
      'image_invalid',
      `The bytes are not an image in an accepted format. Send one of ${acceptedNames}.`,
      'The content type or the image format is not accepted.',
    ),
    ...idempotencyErrors,
    ...serviceErrors,
    403: errorResponse(
      403,
      's3_not_granted',
      'This tenant may not read s3://photos/a.jpg.',
      'The tenant may not read the image, or the service accepts requests from its own machine only.',
    ),
    429: rejected,
    503: unavailable,
  },
})

export const getCaption = operation('get', '/v1/captions/{id}', 'getCaption', {
  summary: 'Retrieve the result of a 202 response',
  description: 'A failed caption is returned with the status and error of its failure.',
  request: { params: idParams(captionExample.id) },
  responses: {
    200: jsonResponse('The caption.', captionSchema, captionExample),
    202: { ...queued, headers: { 'Retry-After': queuedHeaders['Retry-After'] } },
    400: errorResponse(400, 'image_invalid', 'The image is truncated.', 'The image could not be captioned.'),
    401: serviceErrors[401],
    403: serviceErrors[403],
    404: errorResponse(404, 'caption_not_found', 'There is no caption "cap_1".'),
    429: serviceErrors[429],
    500: serviceErrors[500],
    503: unavailable,
  },
})
