import { z } from '@hono/zod-openapi'
import { maxPromptCharacters, type Pruning, turbineOptionsSchema } from './caption.ts'
import { TurbineError } from './errors.ts'
import { parse } from './parse.ts'

const textPart = z.looseObject({ type: z.literal('text'), text: z.string() })
const imagePart = z.looseObject({
  type: z.literal('image_url'),
  image_url: z.looseObject({ url: z.string().min(1) }),
})
const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(z.discriminatedUnion('type', [textPart, imagePart]))]).nullish(),
})

/**
 * The part of OpenAI's chat request that means something to a captioner. Further fields (`temperature`,
 * `max_tokens`, ...) are let pass, since clients send them without being asked.
 */
export const chatRequestSchema = z
  .looseObject({
    model: z.string().min(1).optional(),
    messages: z.array(message).min(1),
    n: z.literal(1).nullish(),
    stream: z.boolean().nullish(),
    stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
    turbine: turbineOptionsSchema.optional(),
  })
  .openapi('ChatCompletionRequest')

/** A chat request as a captioner sees it. */
export interface ChatAsk {
  model?: string
  imageUrl: string
  /** Text that the caption continues: a last message of the assistant. */
  prompt?: string
  maxPrune?: number
  deadlineMs?: number
  stream: boolean
  includeUsage: boolean
}

/**
 * Reads a chat request. What the user and the system say is not given to the model, since a captioner follows no
 * instructions; a last message of the assistant is, as the beginning of the caption.
 *
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
  throw new TurbineError(
    `The last message of the assistant has ${prompt.length} characters; at most ${maxPromptCharacters} can begin a caption. Shorten it.`,
    { status: 400, code: 'prompt_too_long', param: 'messages' },
  )
}

const textOf = (content: z.infer<typeof message>['content']) =>
  Array.isArray(content)
    ? content.map((part) => (part.type === 'text' ? part.text : '')).join('')
    : (content ?? '')

const wrongImages = (count: number) =>
  new TurbineError(
    count === 0
      ? 'No message holds an image. Add a part {"type": "image_url", "image_url": {"url": "https://..."}}.'
      : `The messages hold ${count} images. Send one image in each request.`,
    { status: 400, code: count === 0 ? 'image_missing' : 'too_many_images', param: 'messages' },
  )

/** OpenAI's chat completion, with what the caption cost under `turbine`. */
export interface ChatCompletion {
  id: string
  object: 'chat.completion'
  /** Unix seconds. */
  created: number
  model: string
  choices: [
    {
      index: 0
      message: { role: 'assistant'; content: string; refusal: null }
      logprobs: null
      finish_reason: 'stop'
    },
  ]
  usage: ChatUsage
  turbine: Pruning
}

interface ChatUsage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
}

/** Image tokens that entered the encoder are the prompt's. */
const chatUsage = ({ tokens_in, output_tokens }: Pruning): ChatUsage => ({
  prompt_tokens: tokens_in,
  completion_tokens: output_tokens,
  total_tokens: tokens_in + output_tokens,
})

/** A finished caption as the answer of a chat. `created` is in unix seconds. */
export function chatCompletion(answer: {
  id: string
  created: number
  caption: string
  turbine: Pruning
}): ChatCompletion {
  const { id, created, caption, turbine } = answer
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

/** One piece of a chat completion that is streamed. With `include_usage` all but the last have a null `usage`. */
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

/** A chat completion in the pieces in which it is streamed; the caption comes in one. */
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
    choice({ content: choices[0].message.content }),
    { ...choice({}, 'stop'), turbine },
    ...(includeUsage ? [{ ...chunk([]), usage }] : []),
  ]
}
