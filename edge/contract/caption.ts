import { z } from '@hono/zod-openapi'
import { imageWarnings } from './image.ts'

/** Maximum bytes of an image, and of a body that is one. */
export const maxBodyBytes = 20 * 1024 * 1024
/** Maximum bytes of JSON with an image in it: one of the maximum bytes in base64, in wrapped lines, and what is beside it. */
export const maxJsonImageBytes = 32 * 1024 * 1024
/** Maximum time that a response is held, ms; after it the response is 202 with the URL of the result. */
export const maxHoldMs = 25_000
/** Maximum characters of a prompt. */
export const maxPromptCharacters = 200
/** Maximum texts that end a caption, and the characters of each. */
export const maxStops = 4
export const maxStopCharacters = 200

/** Id of a model, as the owner named it. */
export const modelIdSchema = z.string().min(1).max(256)

const stopText = z.string().min(1).max(maxStopCharacters)

/** Maximum tokens of a caption. */
export const maxTokensSchema = z.int().min(1)
/** Texts that end a caption: one, or a list. */
export const stopSchema = z.union([stopText, z.array(stopText).max(maxStops)])

/** Where a caption ends before the model ends it. */
export interface CaptionEnd {
  /** Maximum tokens; the prompt does not count. */
  maxTokens?: number
  /** The caption ends before the first of these texts. */
  stop?: readonly string[]
}

/** Reads the fields of a request that end its caption; `null` counts as left out. */
export const captionEnd = (
  maxTokens: readonly (number | null | undefined)[],
  stop: z.output<typeof stopSchema> | null | undefined,
): CaptionEnd => {
  const limits = maxTokens.filter((limit) => typeof limit === 'number')
  const texts = typeof stop === 'string' ? [stop] : (stop ?? [])
  return {
    ...(limits.length > 0 && { maxTokens: Math.min(...limits) }),
    ...(texts.length > 0 && { stop: texts }),
  }
}

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

/** How well an image is to be seen, in OpenAI's words: `high` and `original` keep all of its tokens. */
export const imageDetails = ['auto', 'low', 'high', 'original'] as const
export type ImageDetail = (typeof imageDetails)[number]

/** Address of an image, also as an object, as in a chat. */
const addressSchema = z.string().min(1).max(maxJsonImageBytes)
export const imageUrlSchema = z.union([
  addressSchema,
  z.strictObject({ url: addressSchema, detail: z.union([z.enum(imageDetails), z.null()]).optional() }),
])

export const captionRequestSchema = z
  .strictObject({
    image_url: imageUrlSchema.openapi({
      description:
        'A public https address, a `data:` URL, or an `s3://` address that this tenant may read; also as `{"url": ...}`, as in a chat.',
      example: 'https://example.com/photo.jpg',
    }),
    model: modelIdSchema.optional().openapi({
      description: 'A model id from `GET /v1/models`. Default: the served model.',
    }),
    prompt: z.string().max(maxPromptCharacters).optional().openapi({
      description: 'Text that the caption continues, e.g. `a picture of`. Default: none.',
    }),
    max_tokens: maxTokensSchema.nullish().openapi({
      description: "Maximum tokens of the caption. Default: the model's own maximum, which always holds.",
    }),
    stop: stopSchema.nullish().openapi({
      description: `Texts that end the caption, at most ${maxStops}: it is cut before the first that it comes to.`,
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
    output_tokens: z
      .int()
      .openapi({ description: 'Tokens that were made for the caption, its end included; not its prompt.' }),
    queue_ms: z.number().openapi({ description: 'Time from acceptance to the start of the batch, ms.' }),
    inference_ms: z.number().openapi({ description: 'Run time of the batch that the image was in, ms.' }),
    model: z.string().openapi({ description: 'Model id.' }),
    ignored_parameters: z
      .array(z.string())
      .optional()
      .openapi({ description: 'Parameters of the request that the service is set to ignore. Absent: none.' }),
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

/** Why a caption ended: `length` at a maximum of tokens, else `stop`. */
export const finishReasonSchema = z.enum(['stop', 'length'])
export type FinishReason = z.infer<typeof finishReasonSchema>

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
      finish_reason: finishReasonSchema.optional().openapi({
        description:
          '`length` where a maximum of tokens ended the caption, else `stop`. Absent in results of earlier versions.',
      }),
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
