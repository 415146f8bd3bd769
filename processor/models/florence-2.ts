import { z } from 'zod'
import { idList, tokenId } from './exported/config.ts'
import type { ExportedFamily } from './exported/family.ts'
import { readModelJson, requireModelJson } from './model-file.ts'
import { readPictureConfig, unitOf } from './pictures.ts'
import { type EncodedPrompt, PromptError, type PromptRequest } from './prompts.ts'
import { type CaptionTokenizer, loadTokenizer } from './tokenizer.ts'

// Defaults are those of Florence-2's own configuration, whose text part is BART's.
const configSchema = z.object({
  model_type: z.literal('florence2'),
  image_token_id: tokenId.nullish(),
  vision_config: z
    .object({ patch_stride: z.array(z.int().min(1).max(64)).min(1).max(8).default([4, 2, 2, 2]) })
    .prefault({}),
  text_config: z
    .object({
      max_position_embeddings: z.int().positive().default(1024),
      bos_token_id: tokenId.default(0),
      pad_token_id: tokenId.default(1),
      eos_token_id: idList.default([2]),
      decoder_start_token_id: tokenId.default(2),
      forced_bos_token_id: tokenId.nullable().default(0),
    })
    .prefault({}),
})

/** Tasks of each kind. */
const mostTasks = 50
const taskSchema = z
  .record(z.string().min(1).max(100), z.string().max(1000))
  .refine((tasks) => Object.keys(tasks).length <= mostTasks, `more than ${mostTasks} tasks`)
  .nullish()
const processorSchema = z.looseObject({
  image_seq_length: z.int().min(1).max(65_536).nullish(),
  task_prompts_without_inputs: taskSchema,
  task_prompts_with_input: taskSchema,
})

const generationSchema = z.looseObject({
  decoder_start_token_id: tokenId.nullish(),
  forced_bos_token_id: tokenId.nullish(),
})

/** What a task asks, in Florence-2's `processing_florence2.py`. */
const tasksAlone = {
  '<OCR>': 'What is the text in the image?',
  '<OCR_WITH_REGION>': 'What is the text in the image, with regions?',
  '<CAPTION>': 'What does the image describe?',
  '<DETAILED_CAPTION>': 'Describe in detail what is shown in the image.',
  '<MORE_DETAILED_CAPTION>': 'Describe with a paragraph what is shown in the image.',
  '<OD>': 'Locate the objects with category name in the image.',
  '<DENSE_REGION_CAPTION>': 'Locate the objects in the image, with their descriptions.',
  '<REGION_PROPOSAL>': 'Locate the region proposals in the image.',
}
const tasksWithText = {
  '<CAPTION_TO_PHRASE_GROUNDING>': 'Locate the phrases in the caption: {input}',
  '<REFERRING_EXPRESSION_SEGMENTATION>': 'Locate {input} in the image with mask',
  '<REGION_TO_SEGMENTATION>': 'What is the polygon mask of region {input}',
  '<OPEN_VOCABULARY_DETECTION>': 'Locate {input} in the image.',
  '<REGION_TO_CATEGORY>': 'What is the region {input}?',
  '<REGION_TO_DESCRIPTION>': 'What does the region {input} describe?',
  '<REGION_TO_OCR>': 'What text is in the region {input}?',
}

/** Without a task and a text. */
const defaultTask = '<CAPTION>'

interface Tasks {
  alone: ReadonlyMap<string, string>
  withText: ReadonlyMap<string, string>
  /** Tokens of a folder that was trained further, which are the prompt themselves, with a text behind them or without. */
  tokens: readonly string[]
}

/** As names of tasks are; tokens of Florence-2's own vocabulary that mark places and texts are in small letters. */
const taskToken = /^<(?=[^>]*[A-Z])[A-Za-z]\w{1,60}>$/

/**
 * Opens a Florence-2: a DaViT whose features BART reads before the text, which is one of its tasks.
 *
 * Xiao et al., "Florence-2", CVPR 2024. Prompts as in its `processing_florence2.py`.
 * @throws ModelFolderError
 */
export async function openFlorence2(folder: string): Promise<ExportedFamily> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const processor = {
    ...(await readModelJson(folder, 'processor_config.json', processorSchema)),
    ...(await readModelJson(folder, 'preprocessor_config.json', processorSchema)),
  }
  const { text_config: text } = config
  const generation = (await readModelJson(folder, 'generation_config.json', generationSchema)) ?? {}
  const { rule, normalise } = await readPictureConfig(folder, ['squash'])
  const stride = config.vision_config.patch_stride.reduce((product, each) => product * each, 1)
  const [height, width] = unitOf(rule)
  // All of the last stage, behind their mean.
  const rows = processor.image_seq_length ?? Math.ceil(height / stride) * Math.ceil(width / stride) + 1
  const tokenizer = await loadTokenizer(folder)
  const alone = new Map(Object.entries(processor.task_prompts_without_inputs ?? tasksAlone))
  const withText = new Map(Object.entries(processor.task_prompts_with_input ?? tasksWithText))
  const tokens = tokenizer.addedTokens
    .filter((token) => taskToken.test(token) && !alone.has(token) && !withText.has(token))
    .slice(0, mostTasks)
  const tasks: Tasks = { alone, withText, tokens }
  const imageId = config.image_token_id ?? text.pad_token_id
  const start = [
    generation.decoder_start_token_id ?? text.decoder_start_token_id,
    generation.forced_bos_token_id ?? text.forced_bos_token_id,
  ].filter((id) => id !== null)
  const places = Array.from({ length: rows }, (_, index) => index)
  const maxContext = text.max_position_embeddings
  const encode = async (request: PromptRequest): Promise<EncodedPrompt> => {
    const { token = '', text: asked } = questionOf(request, tasks)
    const question = [...tokenizer.encodeTemplate(token), ...tokenizer.encodePrompt(asked)]
    const ids = [...places.map(() => imageId), ...[text.bos_token_id, ...question, text.eos_token_id[0]!]]
    if (ids.length > maxContext)
      throw new PromptError(
        'prompt_too_long',
        `The prompt has ${question.length} tokens; this model reads at most ${maxContext - rows - 2} behind a picture. Shorten it.`,
      )
    return { ids, places, start: [...start, ...begin(tokenizer, request)] }
  }
  return {
    family: 'florence2',
    folder,
    picture: rule,
    normalise,
    sessions: {
      vision: 'vision_encoder',
      embed: 'embed_tokens',
      encoder: 'encoder_model',
      decoder: 'decoder_model_merged',
    },
    follows: 'tasks',
    tasks: [...tasks.alone.keys()],
    textTasks: [...tasks.withText.keys(), ...tasks.tokens],
    maxPictures: 1,
    imageRows: () => rows,
    encode,
    decode: tokenizer.decode,
    endIds: text.eos_token_id,
    padId: text.pad_token_id,
    vocabulary: tokenizer.size,
    maxContext,
  }
}

const begin = (tokenizer: CaptionTokenizer, { beginning }: PromptRequest) =>
  beginning ? tokenizer.encodePrompt(beginning) : []

/**
 * What a request asks: a task by its name, as `task` or at the start of the text, or the text as it is.
 * @throws PromptError
 */
function questionOf(
  { system, text, task }: PromptRequest,
  { alone, withText, tokens }: Tasks,
): { token?: string; text: string } {
  const said = [system, text].filter(Boolean).join('\n').trim()
  const names = [...alone.keys(), ...withText.keys(), ...tokens]
  const named = task === undefined ? names.find((name) => said.includes(name)) : nameOf(task, names)
  const input = named === undefined ? said : said.replace(named, '').trim()
  if (named === undefined) return { text: said || alone.get(defaultTask) || '' }
  if (tokens.includes(named)) return { token: named, text: input }
  const question = alone.get(named)
  if (question === undefined) {
    if (input === '')
      throw new PromptError(
        'task_unknown',
        `The task ${named} reads a text beside it. Send one as the prompt.`,
      )
    return { text: withText.get(named)!.replace('{input}', () => input) }
  }
  if (input !== '')
    throw new PromptError(
      'task_unknown',
      `The task ${named} reads no text beside it. Leave the text out, or take one of ${[...withText.keys()].join(', ')}.`,
    )
  return { text: question }
}

/** With or without its brackets, in any letters. */
function nameOf(task: string, names: readonly string[]): string {
  const wanted = `<${task.trim().replace(/^<|>$/g, '').toUpperCase()}>`
  const name = names.find((each) => each.toUpperCase() === wanted)
  if (name) return name
  throw new PromptError(
    'task_unknown',
    `The task ${JSON.stringify(task.slice(0, 100))} is unknown; this model has ${names.join(', ')}.`,
  )
}
