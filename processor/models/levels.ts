import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { type EncoderShape, flopShare } from '../turbo/flops.ts'
import { perLayer, pruneRatio, type Schedule, semanticWeights, tokenCounts } from '../turbo/schedule.ts'
import { readModelJson } from './model-file.ts'

/** One entry of a model's level table. Level 0 is the unpruned model. */
export interface PruneLevel extends Schedule {
  /** Tokens that leave the encoder, CLS included. */
  tokensOut: number
  /** Share of the image tokens that are merged away, 0 to 1. */
  pruneRatio: number
  /** FLOPs of the encoder over those of the unpruned one, 0 to 1. */
  flopShare: number
  /** What calibration measured; absent for levels that nobody calibrated. */
  quality?: LevelQuality
}

/** How well the captions of a level agree with the unpruned ones, on pictures that the level was not chosen by. */
export interface LevelQuality {
  /** Share of captions that are equal, 0 to 1. */
  exact: number
  /** CIDEr-D over that of equal captions, 0 to 1. */
  cider: number
}

/** The file beside a model that holds its calibrated levels. */
export const levelsFile = 'turbine.json'

const share = z.number().min(0).max(1)
const speedSchema = z.object({
  /** When, ISO 8601. */
  at: z.string(),
  /** Device and precision, e.g. `cpu, float32`. */
  device: z.string(),
  /** Images in each run. */
  batch: z.int().min(1),
  /** Of each level, level 0 first. */
  images_per_second: z.array(z.number().positive()),
})
const calibrationSchema = z.object({
  /** When, ISO 8601. */
  at: z.string(),
  /** Version of the search. */
  search: z.int().min(1),
  /** Where captions were compared: device and precision. */
  device: z.string(),
  /** Pictures that levels were chosen by, and those that their quality is measured on. */
  pictures: z.object({ search: z.int().min(1), held_out: z.int().min(1) }),
  speed: speedSchema,
})
const fileSchema = z.object({
  levels: z
    .array(
      z.object({
        r: z.array(z.int().min(0)),
        weight: z.array(z.number()),
        quality: z.object({ exact: share, cider: share }).optional(),
      }),
    )
    .min(1),
  calibration: calibrationSchema.optional(),
})

/** What the file holds: the levels' schedules, and how they were found. */
export type LevelTable = z.output<typeof fileSchema>
export type LevelSpeeds = z.output<typeof speedSchema>

/**
 * The model's level table from `turbine.json` in its folder, else levels by the paper's constant r and alpha.
 * @throws ModelFolderError when the file is malformed or its levels do not ascend in tokens merged.
 */
export async function readLevels(folder: string, encoder: EncoderShape): Promise<PruneLevel[]> {
  const table = await readLevelTable(folder)
  if (table === undefined) return defaultLevels(encoder)
  const file = join(folder, levelsFile)
  const { levels: schedules } = table
  if (schedules.some(({ r, weight }) => r.length !== encoder.layers || weight.length !== encoder.layers))
    throw new ModelFolderError(`${file}: r and weight need ${encoder.layers} entries, one for each layer.`)
  const levels = schedules.map((schedule) => toLevel(schedule, encoder))
  if (levels[0]!.pruneRatio !== 0)
    throw new ModelFolderError(`${file}: the first level has to be the unpruned model, r all zeros.`)
  if (levels.some((level, i) => i > 0 && level.tokensOut >= levels[i - 1]!.tokensOut))
    throw new ModelFolderError(`${file}: levels have to ascend in tokens merged.`)
  return levels
}

/** Reads `turbine.json` of a folder; undefined when it is missing. @throws ModelFolderError when it is malformed */
export const readLevelTable = (folder: string): Promise<LevelTable | undefined> =>
  readModelJson(folder, levelsFile, fileSchema, 'Fix or remove it.')

/** Writes `turbine.json` into a folder, a line for each level; whoever reads meanwhile sees the old one or the new one. */
export async function writeLevelTable(folder: string, { levels, calibration }: LevelTable): Promise<void> {
  const rows = levels.map((level) => `  ${JSON.stringify(level)}`).join(',\n')
  const rest = calibration ? `,\n "calibration": ${JSON.stringify(calibration, undefined, 1)}` : ''
  const file = join(folder, levelsFile)
  await writeFile(`${file}.part`, `{"levels": [\n${rows}\n ]${rest}\n}\n`)
  await rename(`${file}.part`, file)
}

/** At most six levels that merge a constant share in every layer, with the paper's alpha: a start for uncalibrated models. */
export function defaultLevels(encoder: EncoderShape): PruneLevel[] {
  const { tokens, layers } = encoder
  const most = Math.floor((0.83 * (tokens - 1)) / layers)
  const levels = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => {
    const r = perLayer(Math.round(share * most), layers)
    return toLevel({ r, weight: semanticWeights(r) }, encoder)
  })
  // In a small encoder a larger r can reach the threshold sooner and merge less.
  return levels.filter((level, i) => levels.slice(0, i).every((lower) => level.tokensOut < lower.tokensOut))
}

/** Adds what follows from the schedule. */
export function toLevel(schedule: Schedule & { quality?: LevelQuality }, encoder: EncoderShape): PruneLevel {
  const tokensOut = tokenCounts(encoder.tokens, schedule.r).at(-1)!
  return {
    ...schedule,
    tokensOut,
    pruneRatio: pruneRatio(encoder.tokens, tokensOut),
    flopShare: flopShare(encoder, schedule.r),
  }
}
