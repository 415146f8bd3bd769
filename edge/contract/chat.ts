import { z } from '@hono/zod-openapi'
import type { Asked } from './ask.ts'
import {
  type Choice,
  type CompletedCaption,
  captionEnd,
  type FinishReason,
  finishReasonSchema,
  maxTokensSchema,
  modelIdSchema,
  mostImages,
  type Pruning,
  promptTokens,
  pruningSchema,
  stopSchema,
  turbineOptionsSchema,
} from './caption.ts'
import {
  type Content,
  type ContentImage,
  fieldsBeside,
  imagePartExample,
  imagePartForms,
  readContent,
} from './content.ts'
import { excerpt, invalid } from './errors.ts'
import { generationFields, generationIn, maxCaptions } from './generation.ts'
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
    ...generationFields,
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
export interface ChatAsk extends Asked {
  model?: string
  maxPrune?: number
  deadlineMs?: number
  stream: boolean
  includeUsage: boolean
  ignored: string[]
}

/**
 * Reads a chat request. What becomes of its text and of the parameters that only some models honour says `fitAsk`; a last
 * message of the assistant is the beginning of the caption.
 * @param ignored parameters that are dropped instead of refused
 * @throws TurbineError of `parse`, `readParameters` and `readContent`, `image_missing`, `too_many_images`
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
  if (images.length < 1 || images.length > mostImages) throw wrongImages(images.length, contents)
  const stream = request.stream ?? false
  if (request.stream_options && !stream)
    throw invalid('invalid_value', '"stream_options" may only be sent with "stream": true.', 'stream_options')
  const { turbine } = request
  const said = request.messages.map(({ role }, index) => ({ role, text: contents[index]!.text }))
  return {
    model: request.model ?? undefined,
    imageUrls: images.map(({ url }) => url),
    ...textsOf(said),
    ...(turbine?.task !== undefined && { task: turbine.task }),
    ...(turbine?.max_pixels !== undefined && { maxPixels: turbine.max_pixels }),
    ...enoughFor(images),
    generation: generationIn(request),
    ...captionEnd([request.max_tokens, request.max_completion_tokens], request.stop),
    maxPrune: turbine?.max_prune ?? leastPruned(images),
    deadlineMs: turbine?.deadline_ms,
    stream,
    includeUsage: request.stream_options?.include_usage ?? false,
    ignored: toldNames([...dropped, ...unused, ...earlierAnswers(said)]),
  }
}

/** What may be merged of all images of a request. */
const leastPruned = (images: readonly ContentImage[]): number | undefined =>
  images.reduce<number | undefined>(
    (least, { maxPrune }) => (maxPrune === undefined ? least : Math.min(least ?? 1, maxPrune)),
    undefined,
  )

/** All images of a request are seen alike: in low detail where that is enough of each. */
function enoughFor(images: readonly ContentImage[]): Pick<Asked, 'enoughPixels'> {
  const enough = images.map(({ enoughPixels = Number.POSITIVE_INFINITY }) => enoughPixels)
  const most = Math.max(...enough)
  return Number.isFinite(most) ? { enoughPixels: most } : {}
}

interface Said {
  role: 'system' | 'developer' | 'user' | 'assistant'
  text: string
}

const systemRoles: readonly string[] = ['system', 'developer']

/** The text of the messages of a role, in paragraphs. */
function textsOf(said: readonly Said[]) {
  const join = (is: (role: string) => boolean) =>
    said.flatMap(({ role, text }) => (is(role) && text !== '' ? [text] : [])).join('\n')
  const texts = {
    system: join((role) => systemRoles.includes(role)),
    text: join((role) => role === 'user'),
    beginning: said.at(-1)!.role === 'assistant' ? said.at(-1)!.text : '',
  }
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== '')) as Partial<typeof texts>
}

/** Answers that an assistant gave before: a captioner has no conversation. */
const earlierAnswers = (said: readonly Said[]): string[] =>
  said
    .slice(0, -1)
    .flatMap(({ role, text }, index) =>
      role === 'assistant' && text !== '' ? [`messages.${index}.content`] : [],
    )

const isFields = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** An address in a text, which is no image. */
const addressInText = /\b(https?:\/\/|s3:\/\/|data:image)/i

function wrongImages(count: number, contents: Content[]) {
  if (count > 0)
    return invalid(
      'too_many_images',
      `The messages hold ${count} images; at most ${mostImages} are read in one request, and as many as the model takes.`,
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
  prompt_tokens: z.int().openapi({ description: 'Tokens of the images and of the text.' }),
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
        index: z
          .int()
          .min(0)
          .max(maxCaptions - 1),
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

const chatUsage = (turbine: Pruning): ChatUsage => ({
  prompt_tokens: promptTokens(turbine),
  completion_tokens: turbine.output_tokens,
  total_tokens: promptTokens(turbine) + turbine.output_tokens,
})

/** What the request of a completion leaves in it. */
export interface Answered {
  /** Name of the model in the request, which may be an alias; default: the model's own. */
  model?: string
  /** Parameters that were ignored. */
  ignored?: readonly string[]
}

/** A broken picture is a bad request to OpenAI's clients, whatever is wrong with it. */
export const chatStatus = <Status extends number>(status: Status, code: string): Status | 400 =>
  code.startsWith('image_') && (status === 413 || status === 415) ? 400 : status

/** A chat has its texts and images in its messages. */
export const chatParam = (param: string | null | undefined): string | undefined =>
  param === 'prompt' || param === 'image' ? 'messages' : (param ?? undefined)

/** The result of a request with the names of the parameters that were ignored. */
export const withIgnored = (turbine: Pruning, ignored: readonly string[] = []): Pruning =>
  ignored.length > 0 ? { ...turbine, ignored_parameters: [...ignored] } : turbine

/** Converts a completed caption to a chat completion. */
export function chatCompletion(
  {
    id,
    created,
    caption,
    finish_reason,
    captions = [{ caption, finish_reason }],
    turbine,
  }: Pick<CompletedCaption, 'id' | 'created' | 'caption' | 'finish_reason' | 'turbine'> & {
    captions?: readonly Pick<Choice, 'caption' | 'finish_reason'>[]
  },
  { model = turbine.model, ignored }: Answered = {},
): ChatCompletion {
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    choices: captions.map(({ caption: content, finish_reason = 'stop' }, index) => ({
      index,
      message: { role: 'assistant', content, refusal: null },
      logprobs: null,
      finish_reason,
    })),
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
    index: number
    delta: { role?: 'assistant'; content?: string }
    logprobs: null
    finish_reason: FinishReason | null
  }[]
  usage?: ChatUsage | null
  turbine?: Pruning
}

/** What all chunks of a stream say. */
export type ChunkHead = Pick<ChatChunk, 'id' | 'created' | 'model'> & { includeUsage: boolean }

/** Makes the chunks of a streamed chat completion: of each choice its begin, texts and end. */
export function chunksOf({ id, created, model, includeUsage }: ChunkHead) {
  const chunk = (choices: ChatChunk['choices']): ChatChunk => ({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    choices,
    ...(includeUsage ? { usage: null } : {}),
  })
  const choice = (
    index: number,
    delta: ChatChunk['choices'][0]['delta'],
    reason: FinishReason | null = null,
  ) => chunk([{ index, delta, logprobs: null, finish_reason: reason }])
  return {
    begin: (index: number) => choice(index, { role: 'assistant', content: '' }),
    text: (index: number, content: string) => choice(index, { content }),
    /** The ends of all choices, the cost with the last of them, and then the usage if it is asked for. */
    ends({ choices, turbine, usage }: ChatCompletion): ChatChunk[] {
      const ends = choices.map(({ index, finish_reason }) => choice(index, {}, finish_reason))
      return [
        ...ends.slice(0, -1),
        { ...ends.at(-1)!, turbine },
        ...(includeUsage ? [{ ...chunk([]), usage }] : []),
      ]
    },
  }
}
