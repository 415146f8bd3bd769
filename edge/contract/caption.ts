import { z } from '@hono/zod-openapi'

/** Bytes of a request's body that are read at most. */
export const maxBodyBytes = 20 * 1024 * 1024
/** Pixels that an image may have at most, read from its header before anything is decoded. */
export const maxImagePixels = 64_000_000
/** A caller is held at most this long, ms; then the answer is 202 with an address. */
export const maxHoldMs = 25_000

/** Characters of a prompt at most. */
export const maxPromptCharacters = 200

/** What a caller may ask of the service beyond the caption. */
export const turbineOptionsSchema = z
  .strictObject({
    max_prune: z.number().min(0).max(1).optional().openapi({
      description:
        'Highest share of image tokens that may be merged for this image, 0 to 1. 0 is full quality always. Default: 1.',
      example: 0.5,
    }),
    deadline_ms: z.number().int().min(1).max(86_400_000).optional().openapi({
      description:
        'When the answer is wanted, in milliseconds after the request. Past it the answer is 202 with an address that has the result later.',
      example: 500,
    }),
  })
  .openapi('TurbineOptions')

export const captionRequestSchema = z
  .strictObject({
    image_url: z.string().min(1).openapi({
      description:
        'A `data:` URL with a base64 image, a public https address, or an `s3://` address that this tenant may read.',
      example: 'https://example.com/photo.jpg',
    }),
    model: z.string().min(1).optional().openapi({
      description: 'A model id from `GET /v1/models`. Default: the model that is served.',
    }),
    prompt: z.string().max(maxPromptCharacters).optional().openapi({
      description: 'Text that the caption continues, e.g. `a picture of`. Default: none.',
    }),
    turbine: turbineOptionsSchema.optional(),
  })
  .openapi('CaptionRequest')

/** The pruning an image got, and what its caption cost. */
export const pruningSchema = z
  .object({
    prune_level: z.int().openapi({ description: "Index into the model's prune levels; 0 is none." }),
    prune_ratio: z
      .number()
      .openapi({ description: 'Share of the image tokens (CLS not counted) merged away, 0 to 1.' }),
    tokens_in: z.int().openapi({ description: 'Tokens that entered the encoder, CLS included.' }),
    tokens_out: z.int().openapi({ description: 'Tokens that left the encoder, CLS included.' }),
    output_tokens: z.int().openapi({ description: 'Tokens of the caption.' }),
    queue_ms: z.number().openapi({ description: 'From acceptance to the start of the batch, ms.' }),
    inference_ms: z.number().openapi({ description: 'The run of the batch the image was in, ms.' }),
    model: z.string().openapi({ description: 'Id of the model that captioned.' }),
    repaid: z.literal(true).optional().openapi({
      description:
        'A line of a batch: it was pruned while the batch was late, and was captioned again at full quality since.',
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

/** An error as callers see it: OpenAI's shape. */
export const errorBodySchema = z.object({ error: errorSchema }).openapi('Error')

/** A caption as it is answered and stored. `created` is in unix seconds. */
export const captionSchema = z
  .discriminatedUnion('status', [
    z.object({
      id: z.string(),
      object: z.literal('caption'),
      status: z.literal('completed'),
      created: z.int(),
      caption: z.string(),
      turbine: pruningSchema,
    }),
    z.object({
      id: z.string(),
      object: z.literal('caption'),
      status: z.literal('failed'),
      created: z.int(),
      /** HTTP status that the waiting caller gets. */
      http_status: z.int(),
      error: errorSchema,
      /** Seconds after which a repeat makes sense. */
      retry_after: z.int().optional(),
    }),
    z.object({
      id: z.string(),
      object: z.literal('caption'),
      status: z.literal('queued'),
      created: z.int(),
    }),
  ])
  .openapi('Caption')

export type Caption = z.infer<typeof captionSchema>
/** A caption that will not change any more. */
export type FinishedCaption = Exclude<Caption, { status: 'queued' }>
