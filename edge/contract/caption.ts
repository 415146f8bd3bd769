import { z } from '@hono/zod-openapi'
import { imageWarnings } from './image.ts'

/** Maximum bytes of a request body. */
export const maxBodyBytes = 20 * 1024 * 1024
/** Maximum time that a response is held, ms; after it the response is 202 with the URL of the result. */
export const maxHoldMs = 25_000
/** Maximum characters of a prompt. */
export const maxPromptCharacters = 200
/** Maximum characters of an image's URL: an image of the maximum bytes as a `data:` URL. */
export const maxImageUrlCharacters = Math.ceil(maxBodyBytes / 3) * 4 + 1024

/** Id of a model, as the owner named it. */
export const modelIdSchema = z.string().min(1).max(256)

/** Turbine's extensions of requests. */
export const turbineOptionsSchema = z
  .strictObject({
    max_prune: z.number().min(0).max(1).optional().openapi({
      description:
        'Maximum share of image tokens that may be merged for this image, 0 to 1. 0 is always full quality. Default: 1.',
      example: 0.5,
    }),
    deadline_ms: z.number().int().min(1).max(86_400_000).optional().openapi({
      description:
        'Deadline of the response, in milliseconds after the request. After it the response is 202 with the URL of the result.',
      example: 500,
    }),
  })
  .openapi('TurbineOptions')

export const captionRequestSchema = z
  .strictObject({
    image_url: z.string().min(1).max(maxImageUrlCharacters).openapi({
      description:
        'A `data:` URL with a base64 image, a public https address, or an `s3://` address that this tenant may read.',
      example: 'https://example.com/photo.jpg',
    }),
    model: modelIdSchema.optional().openapi({
      description: 'A model id from `GET /v1/models`. Default: the served model.',
    }),
    prompt: z.string().max(maxPromptCharacters).optional().openapi({
      description: 'Text that the caption continues, e.g. `a picture of`. Default: none.',
    }),
    turbine: turbineOptionsSchema.optional(),
  })
  .openapi('CaptionRequest')

/** Pruning and cost of a caption. */
export const pruningSchema = z
  .object({
    prune_level: z.int().openapi({ description: "Index into the model's prune levels; 0 is none." }),
    prune_ratio: z
      .number()
      .openapi({ description: 'Share of the image tokens (CLS not counted) merged away, 0 to 1.' }),
    tokens_in: z.int().openapi({ description: 'Tokens that entered the encoder, CLS included.' }),
    tokens_out: z.int().openapi({ description: 'Tokens that left the encoder, CLS included.' }),
    output_tokens: z.int().openapi({ description: 'Tokens of the caption.' }),
    queue_ms: z.number().openapi({ description: 'Time from acceptance to the start of the batch, ms.' }),
    inference_ms: z.number().openapi({ description: 'Run time of the batch that the image was in, ms.' }),
    model: z.string().openapi({ description: 'Model id.' }),
    warnings: z.array(z.enum(imageWarnings)).optional().openapi({
      description:
        'What is to be known of the image. `truncated`: the end of its file is missing, and with it perhaps a part of the picture.',
    }),
    repaid: z.literal(true).optional().openapi({
      description:
        'True for a batch line that was pruned while the batch was late and has been captioned again at full quality since.',
    }),
  })
  .openapi('Pruning')

export type Pruning = z.infer<typeof pruningSchema>

const errorSchema = z.object({
  message: z.string(),
  type: z.string(),
  param: z.string().nullable(),
  code: z.string(),
})

/** Error response in OpenAI's format. */
export const errorBodySchema = z.object({ error: errorSchema }).openapi('Error')

const captionHead = { id: z.string(), object: z.literal('caption'), created: z.int() }

/** Caption, as returned and stored. `created` is in unix seconds. */
export const captionSchema = z
  .discriminatedUnion('status', [
    z.object({
      ...captionHead,
      status: z.literal('completed'),
      caption: z.string(),
      turbine: pruningSchema,
    }),
    z.object({
      ...captionHead,
      status: z.literal('failed'),
      /** Status of the response. */
      http_status: z.int(),
      error: errorSchema,
      /** Seconds to wait before a retry. */
      retry_after: z.int().optional(),
    }),
    z.object({ ...captionHead, status: z.literal('queued') }),
  ])
  .openapi('Caption')

export type Caption = z.infer<typeof captionSchema>
export type CompletedCaption = Extract<Caption, { status: 'completed' }>
/** Caption in its final state. */
export type FinishedCaption = Exclude<Caption, { status: 'queued' }>
