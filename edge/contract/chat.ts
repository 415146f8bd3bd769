import { z } from '@hono/zod-openapi'
import {
  type CaptionEnd,
  type CompletedCaption,
  captionEnd,
  type FinishReason,
  finishReasonSchema,
  maxPromptCharacters,
  maxTokensSchema,
  modelIdSchema,
  type Pruning,
  pruningSchema,
  stopSchema,
  turbineOptionsSchema,
} from './caption.ts'
import { type Content, fieldsBeside, imagePartExample, imagePartForms, readContent } from './content.ts'
import { excerpt, invalid } from './errors.ts'
import { chatParameters, fixedParameters, type Ignored, readParameters, toldNames } from './parameters.ts'
import { parse, unknownParameter } from './parse.ts'

const maxMessages = 500
/** Parts of a message. */
const maxParts = 100
const maxTextCharacters = 1_000_000
/** Fields of an object, with those that are not used. */
const maxFields = 100

/** Object of which only these fields are used: clients send others by default. */
const lenientObject = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z
    .looseObject(shape)
    .refine((fields) => Object.keys(fields).length <= maxFields, `may have at most ${maxFields} fields`)
    .openapi({ maxProperties: maxFields })

/** Its forms are read by `readContent`. */
const part = lenientObject({}).openapi({
  description: `\`{"type": "text", "text": "..."}\`, or an image: ${imagePartForms.map((form) => `\`${form}\``).join(', ')}.`,
})
// An image can be in a text without a list, too, so that only what is beside images is limited.
const text = z.string().max(maxTextCharacters)
const message = lenientObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([text, z.array(z.union([text, part])).max(maxParts), part, z.null()]).optional(),
})

/** Fields of a message that are used, or say who said it and what else an assistant said. */
const messageFields = [
  'role',
  'content',
  'name',
  'refusal',
  'annotations',
  'audio',
  'tool_calls',
  'function_call',
]

/** A chat request in OpenAI's format; what becomes of each parameter is in `chatParameters`. */
export const chatRequestSchema = z
  .strictObject({
    ...(fixedParameters as Record<never, never>),
    model: modelIdSchema.nullish().openapi({ description: chatParameters.model!.says }),
    messages: z
      .array(message)
      .min(1)
      .max(maxMessages)
      .openapi({ description: chatParameters.messages!.says }),
    max_tokens: maxTokensSchema.nullish().openapi({ description: chatParameters.max_tokens!.says }),
    max_completion_tokens: maxTokensSchema
      .nullish()
      .openapi({ description: chatParameters.max_completion_tokens!.says }),
    stop: stopSchema.nullish().openapi({ description: chatParameters.stop!.says }),
    stream: z.boolean().nullish().openapi({ description: chatParameters.stream!.says }),
    stream_options: z
      .strictObject({
        include_usage: z.boolean().nullish(),
        include_obfuscation: z.union([z.literal(false), z.null()]).optional(),
      })
      .nullish()
      .openapi({ description: chatParameters.stream_options!.says }),
    turbine: z.union([turbineOptionsSchema, z.null()]).optional(),
  })
  .openapi('ChatCompletionRequest')

/** Chat request, as far as a captioner uses it. */
export interface ChatAsk extends CaptionEnd {
  model?: string
  imageUrl: string
  /** Text that the caption continues: a last assistant message. */
  prompt?: string
  maxPrune?: number
  deadlineMs?: number
  stream: boolean
  includeUsage: boolean
  /** Parameters that were ignored. */
  ignored: string[]
}

/**
 * Reads a chat request. User and system text is accepted but not followed, since a captioner takes no instructions; a
 * last assistant message is the beginning of the caption.
 * @param ignored parameters that are dropped instead of refused
 * @throws TurbineError of `parse`, `readParameters` and `readContent`, `image_missing`, `too_many_images`,
 * `prompt_too_long`
 */
export function readChat(body: unknown, ignored: Ignored = []): ChatAsk {
  const { fields, dropped } = isFields(body) ? readParameters(body, ignored) : { fields: body, dropped: [] }
  if (isFields(fields)) {
    const unknown = Object.keys(fields).find((name) => !Object.hasOwn(chatParameters, name))
    if (unknown !== undefined) throw unknownParameter(unknown, Object.keys(chatParameters))
  }
  const request = parse(chatRequestSchema, fields)
  const contents = request.messages.map(({ content }, index) =>
    readContent(content, `messages.${index}.content`),
  )
  const images = contents.flatMap((content) => content.images)
  const unused = request.messages.flatMap((message, index) => [
    ...fieldsBeside(messageFields, message, `messages.${index}`),
    ...contents[index]!.unused,
  ])
  if (images.length !== 1) throw wrongImages(images.length, contents)
  const stream = request.stream ?? false
  if (request.stream_options && !stream)
    throw invalid('invalid_value', '"stream_options" may only be sent with "stream": true.', 'stream_options')
  const { turbine, messages } = request
  return {
    model: request.model ?? undefined,
    imageUrl: images[0]!.url,
    prompt: messages.at(-1)!.role === 'assistant' ? promptOf(contents.at(-1)!) : undefined,
    ...captionEnd([request.max_tokens, request.max_completion_tokens], request.stop),
    maxPrune: turbine?.max_prune ?? images[0]!.maxPrune,
    deadlineMs: turbine?.deadline_ms,
    stream,
    includeUsage: request.stream_options?.include_usage ?? false,
    ignored: toldNames([...dropped, ...unused]),
  }
}

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** @throws TurbineError `prompt_too_long` */
function promptOf({ text: prompt }: Content): string | undefined {
  if (prompt.length <= maxPromptCharacters) return prompt || undefined
  throw invalid(
    'prompt_too_long',
    `The last assistant message has ${prompt.length} characters; at most ${maxPromptCharacters} are allowed. Shorten it.`,
    'messages',
  )
}

/** An address in a text, which is no image. */
const addressInText = /\b(https?:\/\/|s3:\/\/|data:image)/i

function wrongImages(count: number, contents: Content[]) {
  if (count > 1)
    return invalid(
      'too_many_images',
      `The messages hold ${count} images. Send one image per request.`,
      'messages',
    )
  const hint = contents.some(({ text }) => addressInText.test(excerpt(text, 10_000)))
    ? 'An address in the text is not opened.'
    : ''
  return invalid(
    'image_missing',
    `No message holds an image. ${hint ? `${hint} ` : ''}Add a part ${imagePartExample} to a message's content.`,
    'messages',
  )
}

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
        finish_reason: finishReasonSchema,
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

/** What the request of a completion leaves in it. */
export interface Asked {
  /** Name of the model in the request, which may be an alias; default: the model's own. */
  model?: string
  /** Parameters that were ignored. */
  ignored?: readonly string[]
}

/** A broken picture is a bad request to OpenAI's clients, whatever is wrong with it. */
export const chatStatus = <Status extends number>(status: Status, code: string): Status | 400 =>
  code.startsWith('image_') && (status === 413 || status === 415) ? 400 : status

/** The result of a request with the names of the parameters that were ignored. */
export const withIgnored = (turbine: Pruning, ignored: readonly string[] = []): Pruning =>
  ignored.length > 0 ? { ...turbine, ignored_parameters: [...ignored] } : turbine

/** Converts a completed caption to a chat completion. */
export function chatCompletion(
  {
    id,
    created,
    caption,
    finish_reason = 'stop',
    turbine,
  }: Pick<CompletedCaption, 'id' | 'created' | 'caption' | 'finish_reason' | 'turbine'>,
  { model = turbine.model, ignored }: Asked = {},
): ChatCompletion {
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: caption, refusal: null },
        logprobs: null,
        finish_reason,
      },
    ],
    usage: chatUsage(turbine),
    turbine: withIgnored(turbine, ignored),
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
    finish_reason: FinishReason | null
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
  const choice = (delta: ChatChunk['choices'][0]['delta'], finish_reason: FinishReason | null = null) =>
    chunk([{ index: 0, delta, logprobs: null, finish_reason }])
  return [
    choice({ role: 'assistant', content: '' }),
    choice({ content: choices[0]!.message.content }),
    { ...choice({}, choices[0]!.finish_reason), turbine },
    ...(includeUsage ? [{ ...chunk([]), usage }] : []),
  ]
}
