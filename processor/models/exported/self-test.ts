import { ModelFolderError } from '../../onnx/weights.ts'
import type { Bans } from '../generation/bans.ts'
import type { GenerationSettings } from '../generation.ts'
import type { Generator } from './generator.ts'
import type { GenerateMetadata } from './graph.ts'
import { seededUniforms } from './random.ts'
import type { GenerateRow } from './rows.ts'
import { type Originals, type Steps, stepByStep } from './step-by-step.ts'

export interface SelfTestOptions {
  folder: string
  generator: Generator
  metadata: GenerateMetadata
  originals: Originals
  startIds?: number[]
  /** Ids that never come. */
  bans?: Bans | undefined
  /** Ids that the tokenizer knows; default: not compared with the logits. */
  vocabulary?: number
  /** Width of an attention head, for files that do not tell it. */
  headWidth?: number
  /** Features of a picture for decoders of one without text; default 4. */
  featureRows?: number
}

/** Ids of each row. */
const steps = 8
/** Numbers of ids in the prompts. */
const lengths = [7, 12]
const imagePlaces = 4
/** Every vocabulary has as many. */
const fewestIds = 100

/** How far two float16 or float32 runs of the same model may be apart, relative to the largest logit. */
const tolerance = 0.01

const greedy: GenerationSettings = {
  maxTokens: steps,
  temperature: 0,
  topP: 1,
  repetitionPenalty: 1,
  noRepeatNgram: 0,
}

/**
 * Compares the ids of a generate session with those of the files step by step, on made-up rows: alone, and together
 * where rows do not depend on each other.
 * @throws ModelFolderError when they differ by more than a near tie
 */
export async function selfTest(options: SelfTestOptions): Promise<void> {
  const { folder, generator, metadata, originals, startIds = [], headWidth, bans } = options
  const forced = metadata.form === 'encoder' ? startIds.length - 1 : 0
  const rows = lengths.map((length, i) => madeUpRow(options, length, i))
  const batches = metadata.batchInvariant ? [rows] : rows.map((row) => [row])
  for (const batch of batches) {
    const settings = { ...greedy, maxTokens: steps + forced }
    const results = await generator.generate(batch.map((row) => ({ ...row, settings })))
    for (const [at, { ids }] of results.entries()) {
      const { endIds } = metadata
      const expected = await stepByStep(originals, batch[at]!, { endIds, steps, startIds, headWidth, bans })
      const different = firstDifference(ids.slice(forced), expected)
      const known = expected.logits[0]?.length ?? 0
      if ((options.vocabulary ?? 0) > known)
        throw new ModelFolderError(
          `${folder}: the tokenizer has ids up to ${options.vocabulary! - 1}; the decoder knows ${known}. It is of another model: pull the model again.`,
        )
      if (different !== undefined)
        throw new ModelFolderError(
          `${folder}: the decoder gives other ids inside of a loop than step by step, from id ${different + 1} on. Use another dtype, or export the model again.`,
        )
    }
  }
}

/** Index of the first id that differs and is no near tie; behind a tie everything may differ. */
export function firstDifference(ids: number[], expected: Steps): number | undefined {
  const at = expected.ids.findIndex((id, i) => id !== ids[i])
  if (at === -1) return ids.length === expected.ids.length ? undefined : expected.ids.length
  const logits = expected.logits[at]!
  const other = ids[at] === undefined ? undefined : logits[ids[at]]
  if (other === undefined) return at
  const best = logits[expected.ids[at]!]!
  const largest = logits.reduce(
    (most, logit) => Math.max(most, Number.isFinite(logit) ? Math.abs(logit) : 0),
    0,
  )
  return best - other <= tolerance * largest ? undefined : at
}

function madeUpRow(
  { metadata, startIds = [], featureRows = imagePlaces }: SelfTestOptions,
  length: number,
  seed: number,
): GenerateRow {
  const uniform = seededUniforms(seed)
  const vocabulary = metadata.vocabulary ?? fewestIds
  const ids = Array.from({ length }, () => Math.floor(uniform() * vocabulary))
  const places = Array.from({ length: imagePlaces }, (_, i) => i + 1)
  const count = metadata.form === 'features' ? featureRows : imagePlaces
  const features = Float32Array.from({ length: count * metadata.width }, () => uniform() - 0.5)
  return metadata.form === 'features'
    ? { ids: startIds, places: [], features, settings: greedy }
    : { ids, places, features, settings: greedy }
}
