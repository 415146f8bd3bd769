import { join } from 'node:path'
import { parse } from 'csv-parse/sync'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { readModelJson, readModelText } from './model-file.ts'
import type { Normalisation, PadRule } from './pictures.ts'

const configSchema = z.looseObject({
  architecture: z.string().nullish(),
  num_classes: z.int().positive().nullish(),
  pretrained_cfg: z
    .looseObject({ input_size: z.array(z.int().min(1).max(8192)).length(3).nullish() })
    .nullish(),
})

/** Of the columns of `selected_tags.csv`, those that count. */
const rowSchema = z.object({ name: z.string().min(1).max(1000), category: z.string() })

const categories = { 0: 'general', 4: 'character', 9: 'rating' } as const
export type TagCategory = (typeof categories)[keyof typeof categories]

interface Tag {
  name: string
  /** Undefined: of a category that is not shown. */
  category: TagCategory | undefined
}

export interface TagThresholds {
  general: number
  character: number
}

/** As the authors of the taggers have them. */
export const defaultThresholds: TagThresholds = { general: 0.35, character: 0.85 }

export interface ScoredTag {
  name: string
  category: TagCategory
  /** 0 to 1. */
  score: number
}

/** What a tagger says of a picture. */
export interface TaggedPicture {
  /** Its tags, as `selected_tags.csv` has them: characters, then general ones, the most certain first. */
  caption: string
  tags: ScoredTag[]
  /** The most certain rating; undefined where a model has none. */
  rating: ScoredTag | undefined
}

/** A folder of one session that scores tags, `scores float32 [B, tags]`. */
export interface Tagger {
  family: 'wd-tagger'
  folder: string
  picture: PadRule
  normalise: Normalisation
  /** File of the session. */
  file: string
  tags: readonly Tag[]
  /** @param scores of one picture, 0 to 1, in the order of the tags */
  describe(scores: Float32Array, thresholds?: TagThresholds): TaggedPicture
}

/** Tags and bytes: many times those of public models. */
const maxTags = 200_000
const maxCsv = 32_000_000

/**
 * Opens a tagger in the layout of SmilingWolf's: `model.onnx`, which takes float32 `[B, H, W, 3]` of 0 to 255, blue first, and
 * `selected_tags.csv`.
 * @throws ModelFolderError
 */
export async function openWdTagger(folder: string): Promise<Tagger> {
  const config = (await readModelJson(folder, 'config.json', configSchema)) ?? {}
  const tags = await readTags(folder)
  const classes = config.num_classes
  if (classes && classes !== tags.length)
    throw new ModelFolderError(
      `${join(folder, 'selected_tags.csv')} has ${tags.length} tags; config.json asks for ${classes}.`,
    )
  const [, side = 448, width = 448] = config.pretrained_cfg?.input_size ?? []
  if (side !== width)
    throw new ModelFolderError(`${join(folder, 'config.json')}: input_size must be a square.`)
  return {
    family: 'wd-tagger',
    folder,
    picture: { kind: 'pad', side, resample: 'bicubic', background: [255, 255, 255] },
    normalise: { mean: [0, 0, 0], std: [1, 1, 1], rescale: 1, channels: 'bgr' },
    file: join(folder, 'model.onnx'),
    tags,
    describe: (scores, thresholds) => describeTags(tags, scores, thresholds),
  }
}

async function readTags(folder: string): Promise<Tag[]> {
  const file = join(folder, 'selected_tags.csv')
  const text = await readModelText(folder, 'selected_tags.csv')
  if (text === undefined) throw new ModelFolderError(`${file} is missing. Pull the model again.`)
  if (text.length > maxCsv) throw new ModelFolderError(`${file} has more than ${maxCsv} characters.`)
  let rows: unknown[]
  try {
    rows = parse(text, { bom: true, columns: true, skip_empty_lines: true, to: maxTags + 1 })
  } catch (cause) {
    throw new ModelFolderError(`${file} is not CSV. Pull the model again.`, { cause })
  }
  if (rows.length === 0 || rows.length > maxTags)
    throw new ModelFolderError(`${file} must have 1 to ${maxTags} tags.`)
  return rows.map((row, index) => {
    const parsed = rowSchema.safeParse(row)
    if (!parsed.success)
      throw new ModelFolderError(
        `${file}: line ${index + 2} needs a name and a category. Pull the model again.`,
      )
    const { name, category } = parsed.data
    return { name, category: categories[Number(category) as keyof typeof categories] }
  })
}

/** @throws RangeError for scores that are not of these tags */
export function describeTags(
  tags: readonly Tag[],
  scores: Float32Array,
  thresholds: TagThresholds = defaultThresholds,
): TaggedPicture {
  if (scores.length !== tags.length)
    throw new RangeError(`The model gives ${scores.length} scores for ${tags.length} tags.`)
  const scored = tags.flatMap(({ name, category }, index) =>
    category ? [{ name, category, score: scores[index]! }] : [],
  )
  scored.sort((a, b) => b.score - a.score)
  const of = (category: TagCategory, least: number) =>
    scored.filter((tag) => tag.category === category && tag.score > least)
  const chosen = [...of('character', thresholds.character), ...of('general', thresholds.general)]
  return {
    caption: chosen.map(({ name }) => name).join(', '),
    tags: chosen,
    rating: scored.find(({ category }) => category === 'rating'),
  }
}
