import { z } from '@hono/zod-openapi'
import { generationFields, maxCaptions } from './generation.ts'
import { imageWarnings } from './image.ts'

/** Maximum bytes of an image, and of a body that is one. */
export const maxBodyBytes = 20 * 1024 * 1024
/** Maximum bytes of JSON with an image in it: one of the maximum bytes in base64, in wrapped lines, and what is beside it. */
export const maxJsonImageBytes = 32 * 1024 * 1024
/** Maximum time that a response is held, ms; after it the response is 202 with the URL of the result. */
export const maxHoldMs = 25_000
/** Maximum characters of the beginning of a caption. */
export const maxBeginningCharacters = 200
/** Maximum characters of the text that a model is asked with, whatever is set. */
export const mostTextCharacters = 100_000
/** Maximum images of a request, whatever is set. */
export const mostImages = 16
/** Maximum texts that end a caption, and the characters of each. */
export const maxStops = 4
export const maxStopCharacters = 200

/** Pixels of a picture that a request may name: more than any model sees. */
const mostSeenPixels = 1_000_000_000

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
    task: z.string().min(1).max(100).optional().openapi({
      description: "One of the model's `turbine.tasks`, e.g. `<DETAILED_CAPTION>`. Default: the model's own.",
    }),
    max_pixels: z.int().min(1).max(mostSeenPixels).optional().openapi({
      description:
        'Maximum pixels of each picture that the model sees, of models with `turbine.max_pixels`, which always holds: fewer take less time and tell less. Default: that.',
      example: 401_408,
    }),
  })
  .openapi('TurbineOptions')

/** What a model is asked. */
export interface CaptionText {
  system?: string
  /** What it is to follow, or what its task is about. */
  text?: string
  /** First words of the caption, which it continues. */
  beginning?: string
  task?: string
  /** Maximum pixels of each picture that it sees. */
  maxPixels?: number
}

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
    prompt: z
      .string()
      .max(mostTextCharacters)
      .optional()
      .openapi({
        description: `What a model is to do that follows instructions, e.g. \`Describe the colours.\`, or the task of one that has tasks. For others the beginning of the caption, e.g. \`a picture of\`, at most ${maxBeginningCharacters} characters. Default: TURBINE_PROMPT, or none.`,
      }),
    max_tokens: maxTokensSchema.nullish().openapi({
      description: "Maximum tokens of the caption. Default: the model's own maximum, which always holds.",
    }),
    stop: stopSchema.nullish().openapi({
      description: `Texts that end the caption, at most ${maxStops}: it is cut before the first that it comes to.`,
    }),
    ...generationFields,
    turbine: turbineOptionsSchema.optional(),
  })
  .openapi('CaptionRequest')

/** What is to be known of a request: `text_ignored`, its text was not read. */
const requestWarnings = ['text_ignored'] as const
export type RequestWarning = (typeof requestWarnings)[number]
export const requestWarningSchema = z.enum(requestWarnings)

/** Why Turbine ended a caption by itself: it repeated itself. */
const ownFinishSchema = z.enum(['repetition'])

/** Tag of an image. */
export const tagSchema = z.object({
  name: z.string(),
  score: z.number().openapi({ description: 'From 0 to 1.' }),
  category: z.string().openapi({ description: 'E.g. `general`, `character` or `rating`.' }),
})
export type Tag = z.infer<typeof tagSchema>

/** Pruning and cost of a caption. */
export const pruningSchema = z
  .object({
    prune_level: z.int().openapi({ description: "Index into the model's prune levels; 0 is none." }),
    prune_ratio: z
      .number()
      .openapi({ description: 'Share of the image tokens (CLS not counted) merged away, 0 to 1.' }),
    tokens_in: z.int().openapi({ description: 'Tokens that entered the encoder, CLS included.' }),
    tokens_out: z.int().openapi({ description: 'Tokens that left the encoder, CLS included.' }),
    prompt_tokens: z.int().optional().openapi({
      description:
        'Tokens that the caption was made from: those of the images and of the text. Default: `tokens_in`.',
    }),
    output_tokens: z.int().openapi({
      description:
        'Tokens that were made for the caption, its end included; not its prompt. With `n` those of all captions.',
    }),
    queue_ms: z.number().openapi({ description: 'Time from acceptance to the start of the batch, ms.' }),
    inference_ms: z.number().openapi({ description: 'Run time of the batch that the image was in, ms.' }),
    model: z.string().openapi({ description: 'Model id.' }),
    ignored_parameters: z
      .array(z.string())
      .optional()
      .openapi({ description: 'Parameters of the request that the service is set to ignore. Absent: none.' }),
    finish_reason: ownFinishSchema.optional().openapi({
      description: '`repetition`: the caption repeated itself, and was ended there. Absent: it was not.',
    }),
    tags: z.array(tagSchema).optional().openapi({
      description: 'Tags of the image, the likeliest first, of a model whose `output` is `tags`.',
    }),
    warnings: z
      .array(z.enum([...imageWarnings, ...requestWarnings]))
      .optional()
      .openapi({
        description:
          'What is to be known. `truncated`: the end of the file of the image is missing, and with it perhaps a part of the picture. `text_ignored`: the model does not follow the text of the request, or not all of it.',
      }),
    repaid: z.literal(true).optional().openapi({
      description:
        'True for a batch line that was pruned while the batch was late and has been captioned again at full quality since.',
    }),
  })
  .openapi('Pruning')

export type Pruning = z.infer<typeof pruningSchema>

/** Tokens that a caption was made from. */
export const promptTokens = ({ prompt_tokens, tokens_in }: Pruning): number => prompt_tokens ?? tokens_in

/** Why a caption ended: `length` at a maximum of tokens, else `stop`. */
export const finishReasonSchema = z.enum(['stop', 'length'])
export type FinishReason = z.infer<typeof finishReasonSchema>

/** One of several captions of a request. */
export const choiceSchema = z.object({
  caption: z.string(),
  finish_reason: finishReasonSchema.optional(),
  turbine: z
    .object({
      finish_reason: ownFinishSchema.optional(),
      output_tokens: z.int(),
      tags: z.array(tagSchema).optional(),
    })
    .openapi({ description: 'What is of this caption alone.' }),
})
export type Choice = z.infer<typeof choiceSchema>

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
      captions: z.array(choiceSchema).max(maxCaptions).optional().openapi({
        description: 'All captions of a request with `n`, the first included. Absent: there is one.',
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
