import type { Reading } from './batch.ts'
import {
  type CaptionEnd,
  type CaptionText,
  maxBeginningCharacters,
  maxBodyBytes,
  type RequestWarning,
} from './caption.ts'
import { excerpt, invalid } from './errors.ts'
import {
  type Generation,
  type GenerationName,
  type GenerationValues,
  generationParameters,
  settingsOf,
} from './generation.ts'
import { type Capabilities, modelInWords } from './model.ts'
import { type Ignored, ignores, toldNames, unsupported } from './parameters.ts'

/** What a request or a line asks for, before it is known what its model can. */
export interface Asked extends CaptionEnd, CaptionText {
  /** Text that a model follows, or continues where it follows none. */
  prompt?: string
  /** Pixels that are enough of each image, where its model sees it in more than one size. */
  enoughPixels?: number | undefined
  /** Addresses of the images. */
  imageUrls: readonly string[]
  generation: GenerationValues
  /** Parameters that were ignored. */
  ignored?: readonly string[]
}

/** What a caption is made with. */
export interface Fitted extends CaptionEnd {
  /** Absent: nothing. */
  request?: CaptionText
  /** Absent: none. */
  settings?: Generation
  /** Captions of the image; absent: one. */
  n?: number
  warnings?: RequestWarning[]
  /** Parameters that were ignored. */
  ignored: string[]
}

/** What a service reads of a request. */
export type AskLimits = Pick<Reading, 'ignored' | 'maxText' | 'maxImages'>

/** Limits of services that say nothing else. */
const defaultMaxText = 8192
export const defaultMaxImages = 8

/** A model that a request goes to. */
export interface AskedModel {
  id: string
  can: Capabilities
}

/**
 * What a model is to do for a request: its text where the model follows it, and the parameters that it honours. Others are
 * refused, or ignored where the service is set to; text that is not followed is warned of.
 * @throws TurbineError `unsupported_parameter`, `invalid_value`, `too_many_images`, `prompt_too_long`, `task_unknown`
 * @example fitAsk({ imageUrls: [url], text: 'What is this?', generation: {} }, { id: 'starter', can: blipCapabilities })
 * // { warnings: ['text_ignored'], ignored: [] }
 */
export function fitAsk(
  { imageUrls, enoughPixels, generation, maxTokens, stop, ignored: told = [], ...text }: Asked,
  model: AskedModel,
  limits: AskLimits = {},
): Fitted {
  const param = text.prompt === undefined ? 'messages' : 'prompt'
  assertImages(imageUrls.length, model, limits)
  const { values, dropped } = honoured(generation, model, limits.ignored ?? [])
  const { request, unread } = textOf(text, model, param)
  assertLength(request, param, limits)
  const seen = seenPixels({ maxPixels: text.maxPixels, enoughPixels }, model, limits.ignored ?? [])
  Object.assign(request, seen.request)
  // Tags have no tokens to count.
  const isCounted = model.can.output !== 'tags'
  const uncounted = maxTokens !== undefined && !isCounted ? ['max_tokens'] : []
  return {
    ...(maxTokens !== undefined && isCounted && { maxTokens }),
    ...(stop !== undefined && { stop }),
    ...(Object.keys(request).length > 0 && { request }),
    ...settingsOf(values),
    ...(unread && { warnings: ['text_ignored' as const] }),
    ignored: toldNames([...told, ...dropped, ...uncounted, ...seen.dropped]),
  }
}

const maxPixelsName = 'turbine.max_pixels'

/** How large the model sees pictures, where that is a choice. */
function seenPixels(
  { maxPixels, enoughPixels }: Pick<Asked, 'maxPixels' | 'enoughPixels'>,
  { id, can }: AskedModel,
  ignored: Ignored,
): { request: Pick<CaptionText, 'maxPixels'>; dropped: string[] } {
  if (can.max_pixels !== undefined)
    return { request: given({ maxPixels: maxPixels ?? enoughPixels }), dropped: [] }
  if (maxPixels === undefined) return { request: {}, dropped: [] }
  if (ignores(ignored, maxPixelsName)) return { request: {}, dropped: [maxPixelsName] }
  throw invalid(
    'unsupported_parameter',
    `"${maxPixelsName}" is not supported: ${modelInWords(id, can)} sees every picture in one size. Leave it out.`,
    maxPixelsName,
  )
}

function assertImages(count: number, { id, can }: AskedModel, { maxImages = defaultMaxImages }: AskLimits) {
  const most = Math.min(maxImages, can.max_images)
  if (count <= most) return
  const who = can.max_images <= maxImages ? modelInWords(id, can) : 'this service (TURBINE_MAX_IMAGES)'
  throw invalid(
    'too_many_images',
    `The request holds ${count} images; ${who} takes ${most === 1 ? 'one' : `at most ${most}`} in one request.`,
    'messages',
  )
}

function honoured(generation: GenerationValues, model: AskedModel, ignored: Ignored) {
  const dropped: string[] = []
  const names = (Object.keys(generation) as GenerationName[]).filter((name) => {
    if (model.can.parameters.includes(name)) return true
    const { same } = generationParameters[name]
    if (same.schema.safeParse(generation[name]).success) return false
    if (!ignores(ignored, name)) throw notHonoured(name, model)
    dropped.push(name)
    return false
  })
  const values: GenerationValues = Object.fromEntries(names.map((name) => [name, generation[name]]))
  assertFitting(values)
  return { values, dropped }
}

function notHonoured(name: GenerationName, { id, can }: AskedModel) {
  const { without, same } = generationParameters[name]
  const always = can.output === 'tags' ? ['stop'] : ['max_tokens', 'stop']
  const others = [...always, ...can.parameters].map((each) => excerpt(each, 40)).join(', ')
  return unsupported(
    name,
    `${modelInWords(id, can)} honours ${others}; ${without}. Leave it out, or send ${same.words}`,
  )
}

/** Beams are compared, not sampled. */
function assertFitting({ num_beams = 1, temperature = 0, n = 1 }: GenerationValues): void {
  const other =
    num_beams === 1
      ? undefined
      : temperature > 0
        ? '"temperature" above 0'
        : n > 1
          ? '"n" above 1'
          : undefined
  if (other === undefined) return
  throw invalid(
    'invalid_value',
    `"num_beams" above 1 cannot be sent with ${other}. Leave out one of them.`,
    'num_beams',
  )
}

/** The images of one request are together more than one may be. */
export const imagesTooLarge = () =>
  invalid(
    'images_too_large',
    `The images of the request have together more than ${maxBodyBytes / 2 ** 20} MiB. Send fewer, or smaller ones.`,
  )

type AskedText = CaptionText & Pick<Asked, 'prompt'>

const present = (text: string | undefined) => (text?.trim() ? text.toWellFormed() : undefined)

function textOf(
  asked: AskedText,
  model: AskedModel,
  param: string,
): { request: CaptionText; unread: boolean } {
  const { task } = asked
  if (task !== undefined && model.can.follows_text !== 'tasks') throw noTasks(model)
  const [system, text, beginning, prompt] = [asked.system, asked.text, asked.beginning, asked.prompt].map(
    present,
  )
  switch (model.can.follows_text) {
    case 'instructions':
      return { request: given({ system, text: text ?? prompt, beginning }), unread: false }
    case 'tasks':
      return taskOf({ task, system, text: text ?? prompt, beginning }, model, param)
    case 'none': {
      const isUnread = (...texts: (string | undefined)[]) => texts.some((each) => each !== undefined)
      // Tags have no beginning.
      if (model.can.output === 'tags')
        return { request: {}, unread: isUnread(system, text, beginning, prompt) }
      return { request: given({ beginning: beginning ?? prompt }), unread: isUnread(system, text) }
    }
  }
}

/** The fields that are there. */
const given = (request: CaptionText): CaptionText =>
  Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined))

/** A text that is the name of a task, or begins with one, is that task. */
function taskOf({ task: named, system, text, beginning }: CaptionText, model: AskedModel, param: string) {
  const { tasks = [], text_tasks: reading = [] } = model.can
  const byName = named === undefined ? undefined : tasks.find((each) => bare(each) === bare(named))
  if (named !== undefined && byName === undefined) throw unknownTask(named, model)
  const trimmed = text?.trimStart()
  const inText = longestFirst(tasks).find((name) => trimmed?.startsWith(name))
  const [unknown] = (inText === undefined && trimmed?.match(taskName)) || []
  if (unknown !== undefined) throw unknownTask(unknown, model, param)
  if (byName !== undefined && inText !== undefined && byName !== inText)
    throw invalid(
      'invalid_value',
      `"turbine.task" is ${byName}, but the text begins with ${inText}.`,
      'turbine.task',
    )
  const task = byName ?? inText
  const rest = present(inText === undefined ? trimmed : trimmed!.slice(inText.length).trim())
  const isRead = task !== undefined && reading.includes(task)
  return {
    request: given({ task, text: isRead ? rest : undefined, beginning }),
    unread: system !== undefined || (rest !== undefined && !isRead),
  }
}

/** What stands where the name of a task does. */
const taskName = /^<[A-Z][A-Z_\d]*>/

/** `<CAPTION>` may be asked for as `caption`. */
const bare = (task: string) => task.replace(/^<|>$/g, '').toUpperCase()

const longestFirst = (names: readonly string[]) => names.toSorted((a, b) => b.length - a.length)

const noTasks = ({ id, can }: AskedModel) =>
  invalid(
    'unsupported_parameter',
    `"turbine.task" is not supported: ${modelInWords(id, can)} has no tasks. Leave it out.`,
    'turbine.task',
  )

const unknownTask = (task: string, { id, can: { tasks = [], ...can } }: AskedModel, param = 'turbine.task') =>
  invalid(
    'task_unknown',
    `There is no task "${excerpt(task, 60)}" in ${modelInWords(id, can)}. It has ${excerpt(tasks.join(', '), 600)}.`,
    param,
  )

function assertLength(
  { system = '', text = '', beginning = '' }: CaptionText,
  param: string,
  { maxText = defaultMaxText }: AskLimits,
): void {
  const length = system.length + text.length
  if (length > maxText)
    throw invalid(
      'prompt_too_long',
      `The text has ${length} characters; at most ${maxText} are allowed (TURBINE_MAX_TEXT). Shorten it.`,
      param,
    )
  if (beginning.length > maxBeginningCharacters)
    throw invalid(
      'prompt_too_long',
      `The beginning of the caption has ${beginning.length} characters; at most ${maxBeginningCharacters} are allowed. Shorten it.`,
      param,
    )
}
