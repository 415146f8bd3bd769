import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { type EncoderShape, flopShare } from '../turbo/flops.ts'
import { perLayer, pruneRatio, type Schedule, semanticWeights, tokenCounts } from '../turbo/schedule.ts'
import { readModelJson } from './model-file.ts'

/** Entry of a model's level table. Level 0 is the unpruned model. */
export interface PruneLevel extends Schedule {
  /** Tokens that leave the encoder, CLS included. */
  tokensOut: number
  /** Share of the image tokens that are merged away, 0 to 1. */
  pruneRatio: number
  /** FLOPs of the encoder over those of the unpruned one, 0 to 1. */
  flopShare: number
  /** Measured by calibration; absent for uncalibrated levels. */
  quality?: LevelQuality
}

/** Agreement of a level's captions with the unpruned ones, on held-out pictures. */
export interface LevelQuality {
  /** Share of captions that are equal, 0 to 1. */
  exact: number
  /** CIDEr-D relative to that of equal captions, 0 to 1. */
  cider: number
}

/** File of calibrated levels in a model folder. */
export const levelsFile = 'turbine.json'

const share = z.number().min(0).max(1)
const speedSchema = z.object({
  /** Time, ISO 8601. */
  at: z.string(),
  /** Device and precision, e.g. `cpu, float32`. */
  device: z.string(),
  /** Images in each run. */
  batch: z.int().min(1),
  /** Per level, level 0 first. */
  images_per_second: z.array(z.number().positive()),
})
const calibrationSchema = z.object({
  /** Time, ISO 8601. */
  at: z.string(),
  /** Version of the search. */
  search: z.int().min(1),
  /** Device and precision of the compared captions. */
  device: z.string(),
  /** Pictures for choosing levels, and for measuring their quality. */
  pictures: z.object({ search: z.int().min(1), held_out: z.int().min(1) }),
  /** What the model was asked of each picture; absent: nothing. */
  asked: z.record(z.string(), z.union([z.string(), z.number()])).optional(),
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

/** Content of the file: schedules of the levels, and details of the calibration. */
export type LevelTable = z.output<typeof fileSchema>
export type LevelSpeeds = z.output<typeof speedSchema>

/**
 * Reads the levels from `turbine.json` of the model folder; default: levels with the paper's constant r and alpha.
 * @throws ModelFolderError when the file is malformed or its levels do not ascend in tokens merged
 */
export async function readLevels(folder: string, encoder: EncoderShape): Promise<PruneLevel[]> {
  const table = await readLevelTable(folder)
  if (table === undefined) return defaultLevels(encoder)
  const file = join(folder, levelsFile)
  const { levels: schedules } = table
  if (schedules.some(({ r, weight }) => r.length !== encoder.layers || weight.length !== encoder.layers))
    throw new ModelFolderError(`${file}: r and weight must have ${encoder.layers} entries, one per layer.`)
  const levels = schedules.map((schedule) => toLevel(schedule, encoder))
  if (levels[0]!.pruneRatio !== 0)
    throw new ModelFolderError(`${file}: the first level must be the unpruned model, r all zeros.`)
  if (levels.some((level, i) => i > 0 && level.tokensOut >= levels[i - 1]!.tokensOut))
    throw new ModelFolderError(`${file}: levels must ascend in tokens merged.`)
  return levels
}

/** Reads `turbine.json` of a folder; undefined when it is missing. @throws ModelFolderError when it is malformed */
export const readLevelTable = (folder: string): Promise<LevelTable | undefined> =>
  readModelJson(folder, levelsFile, fileSchema, 'Fix or remove it.')

/** Writes `turbine.json` atomically, one line per level. */
export async function writeLevelTable(folder: string, { levels, calibration }: LevelTable): Promise<void> {
  const rows = levels.map((level) => `  ${JSON.stringify(level)}`).join(',\n')
  const rest = calibration ? `,\n "calibration": ${JSON.stringify(calibration, undefined, 1)}` : ''
  const file = join(folder, levelsFile)
  await writeFile(`${file}.part`, `{"levels": [\n${rows}\n ]${rest}\n}\n`)
  await rename(`${file}.part`, file)
}

/** Levels of uncalibrated models: at most six, with a constant r in every layer and the paper's alpha. */
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

/** Derives token counts and FLOPs of a schedule. */
export function toLevel(schedule: Schedule & { quality?: LevelQuality }, encoder: EncoderShape): PruneLevel {
  const tokensOut = tokenCounts(encoder.tokens, schedule.r).at(-1)!
  return {
    ...schedule,
    tokensOut,
    pruneRatio: pruneRatio(encoder.tokens, tokensOut),
    flopShare: flopShare(encoder, schedule.r),
  }
}
