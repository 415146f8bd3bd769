import { z } from '@hono/zod-openapi'
import {
  type CompletedCaption,
  maxImageUrlCharacters,
  maxPromptCharacters,
  modelIdSchema,
  type Pruning,
  pruningSchema,
  turbineOptionsSchema,
} from './caption.ts'
import { invalid } from './errors.ts'
import { parse } from './parse.ts'

const maxMessages = 500
/** Parts of a message. */
const maxParts = 100
const maxTextCharacters = 1_000_000
/** Fields of an object, with those that are ignored. */
const maxFields = 100

/** Object of which only these fields are used: clients send others by default. */
const lenientObject = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z
    .looseObject(shape)
    .refine((fields) => Object.keys(fields).length <= maxFields, `may have at most ${maxFields} fields`)
    .openapi({ maxProperties: maxFields })

const text = z.string().max(maxTextCharacters)
const textPart = lenientObject({ type: z.literal('text'), text })
const imagePart = lenientObject({
  type: z.literal('image_url'),
  image_url: lenientObject({ url: z.string().min(1).max(maxImageUrlCharacters) }),
})
const parts = z.array(z.discriminatedUnion('type', [textPart, imagePart])).max(maxParts)
const message = lenientObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([text, parts, z.null()]).optional(),
})

/**
 * Fields of OpenAI's chat request that a captioner uses. Other fields (`temperature`, `max_tokens`, ...) are accepted
 * but ignored, since clients send them by default.
 */
export const chatRequestSchema = lenientObject({
  model: modelIdSchema.optional(),
  messages: z.array(message).min(1).max(maxMessages),
  n: z.union([z.literal(1), z.null()]).optional(),
  stream: z.boolean().nullish(),
  stream_options: lenientObject({ include_usage: z.boolean().nullish() }).nullish(),
  turbine: turbineOptionsSchema.optional(),
}).openapi('ChatCompletionRequest')

/** Chat request, as far as a captioner uses it. */
export interface ChatAsk {
  model?: string
  imageUrl: string
  /** Text that the caption continues: a last assistant message. */
  prompt?: string
  maxPrune?: number
  deadlineMs?: number
  stream: boolean
  includeUsage: boolean
}

/**
 * Reads a chat request. User and system text is accepted but ignored, since a captioner follows no instructions; a
 * last assistant message is the beginning of the caption.
 * @throws TurbineError of `parse`, `image_missing`, `too_many_images`, `prompt_too_long`
 */
export function readChat(body: unknown): ChatAsk {
  const request = parse(chatRequestSchema, body)
  const images = request.messages.flatMap(({ content }) =>
    Array.isArray(content)
      ? content.flatMap((part) => (part.type === 'image_url' ? [part.image_url.url] : []))
      : [],
  )
  if (images.length !== 1) throw wrongImages(images.length)
  const last = request.messages.at(-1)!
  return {
    model: request.model,
    imageUrl: images[0]!,
    prompt: last.role === 'assistant' ? promptOf(last.content) : undefined,
    maxPrune: request.turbine?.max_prune,
    deadlineMs: request.turbine?.deadline_ms,
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
  }
}

/** @throws TurbineError `prompt_too_long` */
function promptOf(content: z.infer<typeof message>['content']): string | undefined {
  const prompt = textOf(content)
  if (prompt.length <= maxPromptCharacters) return prompt || undefined
  throw invalid(
    'prompt_too_long',
    `The last assistant message has ${prompt.length} characters; at most ${maxPromptCharacters} are allowed. Shorten it.`,
    'messages',
  )
}

const textOf = (content: z.infer<typeof message>['content']) =>
  Array.isArray(content)
    ? content.map((part) => (part.type === 'text' ? part.text : '')).join('')
    : (content ?? '')

const wrongImages = (count: number) =>
  invalid(
    count === 0 ? 'image_missing' : 'too_many_images',
    count === 0
      ? 'No message holds an image. Add a part {"type": "image_url", "image_url": {"url": "https://..."}}.'
      : `The messages hold ${count} images. Send one image per request.`,
    'messages',
  )

const usageSchema = z.object({
  prompt_tokens: z.int().openapi({ description: 'Image tokens that enter the encoder.' }),
  completion_tokens: z.int(),
  total_tokens: z.int(),
})
type ChatUsage = z.output<typeof usageSchema>

/** OpenAI's chat completion, with the cost of the caption under `turbine`. `created` is in unix seconds. */
export const chatCompletionSchema = z
  .object({
    id: z.string(),
    object: z.literal('chat.completion'),
    created: z.int(),
    model: z.string(),
    choices: z.array(
      z.object({
        index: z.literal(0),
        message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        logprobs: z.null(),
        finish_reason: z.literal('stop'),
      }),
    ),
    usage: usageSchema,
    turbine: pruningSchema,
  })
  .openapi('ChatCompletion')
export type ChatCompletion = z.output<typeof chatCompletionSchema>

/** Image tokens count as prompt tokens. */
const chatUsage = ({ tokens_in, output_tokens }: Pruning): ChatUsage => ({
  prompt_tokens: tokens_in,
  completion_tokens: output_tokens,
  total_tokens: tokens_in + output_tokens,
})

/** Converts a completed caption to a chat completion. */
export function chatCompletion({
  id,
  created,
  caption,
  turbine,
}: Pick<CompletedCaption, 'id' | 'created' | 'caption' | 'turbine'>): ChatCompletion {
  return {
    id,
    object: 'chat.completion',
    created,
    model: turbine.model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: caption, refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: chatUsage(turbine),
    turbine,
  }
}

/** Chunk of a streamed chat completion. With `include_usage`, all but the last have a null `usage`. */
export interface ChatChunk {
  id: string
  object: 'chat.completion.chunk'
  created: number
  model: string
  choices: {
    index: 0
    delta: { role?: 'assistant'; content?: string }
    logprobs: null
    finish_reason: 'stop' | null
  }[]
  usage?: ChatUsage | null
  turbine?: Pruning
}

/** Splits a chat completion into the chunks that are streamed; the caption is one chunk. */
export function chatChunks(completion: ChatCompletion, includeUsage: boolean): ChatChunk[] {
  const { id, created, model, usage, turbine, choices } = completion
  const chunk = (chosen: ChatChunk['choices']): ChatChunk => ({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    choices: chosen,
    ...(includeUsage ? { usage: null } : {}),
  })
  const choice = (delta: ChatChunk['choices'][0]['delta'], finish_reason: 'stop' | null = null) =>
    chunk([{ index: 0, delta, logprobs: null, finish_reason }])
  return [
    choice({ role: 'assistant', content: '' }),
    choice({ content: choices[0]!.message.content }),
    { ...choice({}, 'stop'), turbine },
    ...(includeUsage ? [{ ...chunk([]), usage }] : []),
  ]
}
