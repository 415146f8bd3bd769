import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import type { Bans } from './generation/bans.ts'
import { unhonoured, unhonouredFields } from './generation/unhonoured.ts'
import { readModelJson } from './model-file.ts'

/** How one caption is made. */
export interface GenerationSettings {
  /** Most ids behind the prompt, the end id counted. */
  maxTokens: number
  /** Ids before an end id may come; default 0. */
  minTokens?: number
  /** Ids of prompt and caption together before an end id may come; default 0. */
  minLength?: number
  /** Maximum ids of prompt and caption together where a request says nothing; default: none. */
  maxLength?: number
  /** 0 is greedy: always the most probable id. */
  temperature: number
  /** Least probability of the ids that are drawn from, above 0 to 1. */
  topP: number
  /** Ids that are drawn from; default: 50, as in transformers. */
  topK?: number
  /** The same seed draws the same ids; default: chosen at random. */
  seed?: number
  /** Ids that were there before are made less probable by this factor, prompt included; 1: off. */
  repetitionPenalty: number
  /** Runs of so many ids come once; 0: off. */
  noRepeatNgram: number
  /** Subtracted from the logit of an id for each time it was made; default 0. */
  frequencyPenalty?: number
  /** Subtracted once it was made; default 0. */
  presencePenalty?: number
  /** Beams of a beam search; default 1: none. */
  beams?: number
  /** Above 0 a beam search prefers longer captions; default 1. */
  lengthPenalty?: number
  /** A beam search ends with the first so many captions that ended; default false: when no better one can come. */
  earlyStopping?: boolean | 'never'
  /** Ids that never come. */
  bans?: Bans
}

/** What a model folder says about generation. */
export interface GenerationDefaults {
  /** Settings of a caption when the caller gives none. */
  settings: GenerationSettings
  /** Ids that end a caption, at least one. */
  endIds: number[]
  padId: number
  /** First ids of an encoder-decoder's captions: the start id, then one that is forced; empty: the folder says none. */
  startIds: number[]
  /** Id that a caption ends with when it reaches its most ids. */
  forcedEndId?: number
  /** What generation_config.json says that would change captions, and is not honoured. */
  unhonoured: string[]
}

/** Where folders say nothing: most ids of a caption. */
const defaultMaxTokens = 256

/** Negative where there is none. */
const id = z.int()
const idList = z.array(id).min(1).max(256)
const bannedId = z.int().min(0)
const mostBans = 10_000
const generationSchema = z
  .object({
    ...Object.fromEntries(unhonouredFields.map((name) => [name, z.unknown()])),
    eos_token_id: z.union([id, idList]),
    pad_token_id: id,
    bos_token_id: id,
    decoder_start_token_id: z.union([id, z.array(id).length(1)]),
    forced_bos_token_id: id,
    forced_eos_token_id: z.union([id, idList]),
    max_length: z.int().positive(),
    max_new_tokens: z.int().positive(),
    min_length: z.int().min(0),
    min_new_tokens: z.int().min(0),
    do_sample: z.boolean(),
    temperature: z.number().min(0),
    top_p: z.number().positive().max(1),
    top_k: z.int().min(0),
    repetition_penalty: z.number().positive(),
    no_repeat_ngram_size: z.int().min(0).max(100),
    num_beams: z.int().positive().max(64),
    length_penalty: z.number(),
    suppress_tokens: z.array(bannedId).max(mostBans),
    begin_suppress_tokens: z.array(bannedId).max(mostBans),
    bad_words_ids: z.array(z.array(bannedId).min(1).max(100)).max(mostBans),
    early_stopping: z.union([z.boolean(), z.literal('never')]),
  })
  .partial()
// Saved files have null for what is not set.
const nullable = z.preprocess(
  (json) =>
    typeof json === 'object' && json !== null && !Array.isArray(json)
      ? Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null))
      : json,
  generationSchema,
)
const part = nullable.optional()
const configSchema = z.intersection(
  nullable,
  z.object({ text_config: part, decoder: part, language_config: part, llm_config: part }).partial(),
)

type GenerationJson = z.output<typeof generationSchema>

export interface GenerationOptions {
  /** Encoder-decoders: `max_length` counts what is made, the start id included. For others it counts the prompt too. */
  encoderDecoder?: boolean
  /** Most ids of a caption where the folder says nothing. */
  maxTokens?: number
  /** Ids that end a caption where the folder says nothing. */
  endIds?: number[]
  /** False: the model has no beams, draws no words, forces no id at the end. Default: true. */
  beams?: boolean
  sampling?: boolean
  forcedEnd?: boolean
}

/**
 * Reads generation_config.json; where there is none the settings of config.json, and from there in any case the ids
 * that it lacks.
 * @throws ModelFolderError that names the field
 */
export async function readGenerationDefaults(
  folder: string,
  options: GenerationOptions = {},
): Promise<GenerationDefaults> {
  const generation = await readModelJson(folder, 'generation_config.json', nullable)
  const config = (await readModelJson(folder, 'config.json', configSchema)) ?? {}
  const text = config.text_config ?? config.decoder ?? config.language_config ?? config.llm_config ?? {}
  const legacy: GenerationJson = { ...definedOf(text), ...definedOf(config) }
  const ids = idsOf({ ...legacy, ...generation }, options)
  const [endId] = ids.endIds
  if (endId === undefined)
    throw new ModelFolderError(
      `${join(folder, 'generation_config.json')}: eos_token_id is missing, in config.json too. Pull the model again.`,
    )
  const json = generation ?? legacy
  const { beams = true, sampling = true, forcedEnd = true } = options
  return {
    settings: settingsOf(json, ids.endIds, options),
    ...ids,
    padId: ids.padId ?? endId,
    unhonoured: unhonoured({ json, beams, sampling, forcedEnd }),
  }
}

function idsOf(json: GenerationJson, { endIds = [] }: GenerationOptions) {
  const [startId] = listOf(json.decoder_start_token_id)
  const [forcedEndId] = listOf(json.forced_eos_token_id)
  return {
    endIds: json.eos_token_id === undefined ? endIds : listOf(json.eos_token_id),
    padId: listOf(json.pad_token_id)[0],
    startIds: startId === undefined ? [] : [startId, ...listOf(json.forced_bos_token_id)],
    ...(forcedEndId !== undefined && { forcedEndId }),
  }
}

function settingsOf(
  json: GenerationJson,
  endIds: number[],
  { encoderDecoder = false, maxTokens = defaultMaxTokens, beams = true, sampling = true }: GenerationOptions,
): GenerationSettings {
  // The one most probable id is no choice: with a temperature of its own a request does sample.
  const sampled = sampling && json.do_sample === true && json.top_k !== 1
  const byLength = encoderDecoder && json.max_length !== undefined ? json.max_length - 1 : undefined
  // What is made counts where prompts do.
  const byBoth = encoderDecoder || json.max_new_tokens !== undefined ? undefined : json.max_length
  const bans = bansOf(json, endIds)
  return {
    maxTokens: Math.max(1, json.max_new_tokens ?? byLength ?? maxTokens),
    temperature: sampled ? (json.temperature ?? 1) : 0,
    topP: sampled ? (json.top_p ?? 1) : 1,
    ...(sampled && json.top_k !== undefined && { topK: json.top_k }),
    repetitionPenalty: json.repetition_penalty ?? 1,
    noRepeatNgram: json.no_repeat_ngram_size ?? 0,
    ...(json.min_new_tokens !== undefined && { minTokens: json.min_new_tokens }),
    ...(json.min_length && json.min_new_tokens === undefined && { minLength: json.min_length }),
    ...(byBoth !== undefined && { maxLength: byBoth }),
    ...(bans && { bans }),
    beams: beams ? (json.num_beams ?? 1) : 1,
    lengthPenalty: json.length_penalty ?? 1,
    earlyStopping: json.early_stopping ?? false,
  }
}

/** A word of one id never comes; one that is an end id is none. */
function bansOf(json: GenerationJson, endIds: number[]): Bans | undefined {
  const words = (json.bad_words_ids ?? []).filter(([id, ...more]) => more.length > 0 || !endIds.includes(id!))
  const single = words.flatMap((word) => (word.length === 1 ? word : []))
  const bans = {
    always: [...new Set([...(json.suppress_tokens ?? []), ...single])],
    first: json.begin_suppress_tokens ?? [],
    words: words.filter((word) => word.length > 1),
  }
  return Object.values(bans).some((each) => each.length > 0) ? bans : undefined
}

const listOf = (value: number | number[] | undefined): number[] =>
  (Array.isArray(value) ? value : [value]).filter((each) => each !== undefined && each >= 0) as number[]

const definedOf = (json: GenerationJson): GenerationJson =>
  Object.fromEntries(
    Object.keys(generationSchema.shape)
      .map((key) => [key, json[key as keyof GenerationJson]] as const)
      .filter(([, value]) => value !== undefined),
  )

/** Settings without sampling and penalties. */
export const greedy = (maxTokens: number): GenerationSettings => ({
  maxTokens,
  temperature: 0,
  topP: 1,
  repetitionPenalty: 1,
  noRepeatNgram: 0,
})
