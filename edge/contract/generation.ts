import { z } from '@hono/zod-openapi'

/**
 * How the words of a caption are chosen. What is absent is as the model's `generation_config.json` says, or greedy without
 * penalties.
 */
export interface Generation {
  /** 0 is greedy. */
  temperature?: number
  topP?: number
  topK?: number
  seed?: number
  frequencyPenalty?: number
  presencePenalty?: number
  /** 1 is none. */
  repetitionPenalty?: number
  /** Length of the word pieces in a row that do not occur twice; 0 is none. */
  noRepeatNgram?: number
  minTokens?: number
  beams?: number
}

/** Maximum captions of one request. */
export const maxCaptions = 8
const maxBeams = 8
const maxTopK = 1_000_000
const maxNgram = 100
const maxMinTokens = 100_000

/** Parameter of a request that some models honour. */
interface GenerationParameter {
  /** Where its value goes; that of `n` is no setting of one caption. */
  setting: keyof Generation | 'n'
  form: z.ZodType<number>
  /** What it does. */
  says: string
  /** What is done by a model that does not honour it. */
  without: string
  /** Values that ask for that. */
  same: { schema: z.ZodType; words: string }
}

const greedy = 'it decodes greedily, without sampling'
const plain = 'it decodes greedily, without penalties'

/** Parameters of requests that the models honour which name them in `turbine.parameters`. */
export const generationParameters = {
  n: {
    setting: 'n',
    form: z.int().min(1).max(maxCaptions),
    says: 'Captions of the image, each sampled for itself.',
    without: 'it makes one caption for each request',
    same: { schema: z.literal(1), words: '1' },
  },
  temperature: {
    setting: 'temperature',
    form: z.number().min(0).max(2),
    says: 'How freely words are sampled; 0 takes the likeliest.',
    without: greedy,
    same: { schema: z.literal(0), words: '0' },
  },
  top_p: {
    setting: 'topP',
    form: z.number().min(0).max(1),
    says: 'Share of the probability that words are sampled from.',
    without: greedy,
    same: { schema: z.literal(1), words: '1' },
  },
  top_k: {
    setting: 'topK',
    form: z.int().min(-1).max(maxTopK),
    says: 'Number of the likeliest words that are sampled from; -1 and 0: any.',
    without: greedy,
    same: { schema: z.union([z.literal(-1), z.literal(0), z.literal(1)]), words: '-1, 0 or 1' },
  },
  seed: {
    setting: 'seed',
    form: z.int(),
    says: 'The same request with the same seed gets the same caption.',
    without: 'the same image gets the same caption',
    same: { schema: z.int(), words: 'any integer' },
  },
  frequency_penalty: {
    setting: 'frequencyPenalty',
    form: z.number().min(-2).max(2),
    says: 'Makes words less likely by how often the caption has them.',
    without: plain,
    same: { schema: z.literal(0), words: '0' },
  },
  presence_penalty: {
    setting: 'presencePenalty',
    form: z.number().min(-2).max(2),
    says: 'Makes words less likely that the caption has.',
    without: plain,
    same: { schema: z.literal(0), words: '0' },
  },
  repetition_penalty: {
    setting: 'repetitionPenalty',
    form: z.number().min(0.1).max(10),
    says: 'Makes words less likely that prompt or caption have; 1: none.',
    without: plain,
    same: { schema: z.literal(1), words: '1' },
  },
  no_repeat_ngram_size: {
    setting: 'noRepeatNgram',
    form: z.int().min(0).max(maxNgram),
    says: 'So many word pieces in a row do not occur twice; 0: none.',
    without: plain,
    same: { schema: z.literal(0), words: '0' },
  },
  min_tokens: {
    setting: 'minTokens',
    form: z.int().min(0).max(maxMinTokens),
    says: 'Minimum tokens of the caption.',
    without: 'a caption ends where it ends it',
    same: { schema: z.literal(0), words: '0' },
  },
  num_beams: {
    setting: 'beams',
    form: z.int().min(1).max(maxBeams),
    says: 'Captions that are followed at a time, of which the best is taken; 1: no beam search.',
    without: 'it decodes greedily, without beams',
    same: { schema: z.literal(1), words: '1' },
  },
} as const satisfies Record<string, GenerationParameter>

export type GenerationName = keyof typeof generationParameters
export const generationNames = Object.keys(generationParameters) as GenerationName[]

/** Parameters of a request by their names in the API. */
export type GenerationValues = Partial<Record<GenerationName, number>>

/** Schemas of these parameters; null counts as left out. */
export const generationFields = Object.fromEntries(
  generationNames.map((name) => {
    const { form, says } = generationParameters[name]
    return [name, form.nullish().openapi({ description: `${says} If the model honours it.` })]
  }),
) as unknown as Record<GenerationName, z.ZodOptional<z.ZodNullable<z.ZodNumber>>>

/** The generation parameters among the fields of a validated request. */
export const generationIn = (fields: Partial<Record<GenerationName, unknown>>): GenerationValues =>
  Object.fromEntries(
    generationNames.flatMap((name) => (typeof fields[name] === 'number' ? [[name, fields[name]]] : [])),
  )

/** The settings of a caption with these parameters, and how many captions are made. */
export function settingsOf(values: GenerationValues): { settings?: Generation; n?: number } {
  const { n, ...settings } = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      generationParameters[name as GenerationName].setting,
      value,
    ]),
  ) as Generation & { n?: number }
  // Below 0 is any, as 0 is.
  if (settings.topK !== undefined) settings.topK = Math.max(0, settings.topK)
  return {
    ...(Object.keys(settings).length > 0 && { settings }),
    ...(n !== undefined && n > 1 && { n }),
  }
}

/** Settings as they come from a record. */
export const generationSchema: z.ZodType<Generation> = z.strictObject(
  Object.fromEntries(
    generationNames.flatMap((name) => {
      const { setting, form } = generationParameters[name]
      return setting === 'n' ? [] : [[setting, form.optional()]]
    }),
  ),
)
