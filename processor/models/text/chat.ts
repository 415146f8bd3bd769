import { join } from 'node:path'
import { ModelFolderError } from '../../onnx/weights.ts'
import type { PictureShape } from '../pictures.ts'
import { type EncodedPrompt, PromptError, type PromptRequest } from '../prompts.ts'
import type { CaptionTokenizer } from '../tokenizer.ts'
import { type ChatMessage, type ChatTemplate, readChatTemplate } from './chat-template.ts'

/** How a family writes pictures into a conversation. */
export interface ChatFamily {
  folder: string
  tokenizer: CaptionTokenizer
  /** The token that a template writes for a picture. */
  imageToken: string
  imageId: number
  /** Ids that stand for a picture in place of the token; those equal to `imageId` are rows of its features. */
  expand(shape: PictureShape): number[]
  /** Maximum ids of a prompt and its answer. */
  maxContext: number
}

/** Prompts of a family that follows instructions. */
export interface Chat {
  /** Maximum pictures of one prompt. */
  maxPictures: number
  encode(request: PromptRequest): Promise<EncodedPrompt>
}

/** A conversation before its pictures are written out. */
interface Skeleton {
  ids: number[]
  /** Where the beginning of the answer is. */
  answer?: number
}

/** How a template takes a message. */
type Writing = (picture: { count: number; imageToken: string }, text: string) => ChatMessage['content']

const asParts: Writing = ({ count }, text) => [
  ...Array.from({ length: count }, () => ({ type: 'image' }) as const),
  ...(text ? [{ type: 'text', text } as const] : []),
]
/** Of templates for text alone. */
const asText: Writing = ({ count, imageToken }, text) =>
  [...Array.from({ length: count }, () => imageToken), text].filter(Boolean).join('\n')

/** Prompts of callers repeat: so many conversations are kept. */
const keptSkeletons = 64
/** Of one prompt, where a model's template takes several. */
const manyPictures = 16

/**
 * Opens a folder's chat template and tries it.
 * @throws ModelFolderError for a template that fails, or that writes no token for a picture
 */
export async function openChat(family: ChatFamily): Promise<Chat> {
  const template = await readChatTemplate(family.folder)
  const writing = await writingOf(family, template)
  const { tokenizer, maxContext } = family
  const kept = new Map<string, Promise<Skeleton>>()
  const skeletonOf = (request: PromptRequest): Promise<Skeleton> => {
    const { system = '', text, beginning = '', pictures } = request
    const key = JSON.stringify([system, text, beginning, pictures.length])
    const known = kept.get(key)
    if (known) return known
    const [safeSystem = '', safeText = '', begun = ''] = tokenizer.shield([system, text, beginning])
    const conversation = { system: safeSystem, text: safeText, count: pictures.length }
    const skeleton = write(family, template, writing, conversation).then(
      (rendered) => begunSkeleton(tokenizer, rendered, begun),
      (error: unknown) => {
        kept.delete(key)
        throw refused(error)
      },
    )
    kept.set(key, skeleton)
    if (kept.size > keptSkeletons) kept.delete(kept.keys().next().value!)
    return skeleton
  }
  return {
    maxPictures: (await takesSeveral(family, template, writing)) ? manyPictures : 1,
    encode: async (request) => {
      const prompt = expandPictures(await skeletonOf(request), request.pictures, family)
      if (prompt.ids.length < maxContext) return prompt
      throw new PromptError(
        'prompt_too_long',
        `The prompt has ${prompt.ids.length} tokens with its pictures; this model reads at most ${maxContext - 1}. Shorten it, or send fewer or smaller pictures.`,
      )
    },
  }
}

/** Ids of a conversation and of the answer's first words, encoded as one text. */
function begunSkeleton(tokenizer: CaptionTokenizer, rendered: string, beginning: string): Skeleton {
  const ids = tokenizer.encodeTemplate(rendered + beginning)
  if (!beginning) return { ids }
  const before = tokenizer.encodeTemplate(rendered)
  const differs = before.findIndex((id, index) => id !== ids[index])
  return { ids, answer: differs === -1 ? before.length : differs }
}

/** @throws PromptError for a number of image tokens that is not that of pictures */
function expandPictures(
  { ids, answer }: Skeleton,
  pictures: readonly PictureShape[],
  { imageId, imageToken, expand }: ChatFamily,
): EncodedPrompt {
  const expanded: number[] = []
  const places: number[] = []
  let picture = 0
  let answerAt: number | undefined
  for (const [index, id] of ids.entries()) {
    if (index === answer) answerAt = expanded.length
    if (id !== imageId) {
      expanded.push(id)
      continue
    }
    const shape = pictures[picture++]
    for (const part of shape ? expand(shape) : []) {
      if (part === imageId) places.push(expanded.length)
      expanded.push(part)
    }
  }
  if (picture !== pictures.length)
    throw new PromptError(
      'too_many_images',
      `The model's chat template writes ${imageToken} ${picture} times for ${pictures.length} pictures.`,
    )
  return answerAt === undefined ? { ids: expanded, places } : { ids: expanded, places, answer: answerAt }
}

interface Conversation {
  system: string
  text: string
  count: number
}

async function write(
  { imageToken }: ChatFamily,
  template: ChatTemplate | undefined,
  writing: Writing,
  { system, text, count }: Conversation,
): Promise<string> {
  if (!template) {
    const content = asText({ count, imageToken }, text) as string
    return system ? `${system}\n${content}` : content
  }
  const messages: ChatMessage[] = [{ role: 'user', content: writing({ count, imageToken }, text) }]
  if (system) messages.unshift({ role: 'system', content: writing({ count: 0, imageToken }, system) })
  return template.render(messages)
}

/** What a template refuses for one conversation is that caller's. */
const refused = (error: unknown): unknown =>
  error instanceof ModelFolderError
    ? new PromptError('prompt_refused', `The model takes no such conversation: ${error.message}`)
    : error

const probe = 'Describe the picture.'

const countOf = (text: string, part: string) => text.split(part).length - 1

async function writes(
  family: ChatFamily,
  template: ChatTemplate | undefined,
  writing: Writing,
  count: number,
): Promise<boolean> {
  const text = await write(family, template, writing, { system: '', text: probe, count })
  return countOf(text, family.imageToken) === count && countOf(text, probe) === 1
}

/** The way of writing that a template understands. @throws ModelFolderError */
async function writingOf(family: ChatFamily, template: ChatTemplate | undefined): Promise<Writing> {
  if (!template) return asText
  let failure: unknown
  for (const writing of [asParts, asText])
    try {
      if (await writes(family, template, writing, 1)) return writing
    } catch (error) {
      failure ??= error
    }
  if (failure) throw failure
  throw new ModelFolderError(
    `${join(family.folder, 'tokenizer_config.json')}: the chat template writes no ${family.imageToken} for a picture, or not its text.`,
  )
}

async function takesSeveral(
  family: ChatFamily,
  template: ChatTemplate | undefined,
  writing: Writing,
): Promise<boolean> {
  try {
    return await writes(family, template, writing, 2)
  } catch {
    return false
  }
}
