import type { CaptionModel } from '../../processor/models/model.ts'

/** For each level of a model the share of captions that are exact, 0 to 1, and where it is from. */
export interface LevelQualities {
  exact: number[]
  source: 'calibrated' | 'measured'
}

/** Results of the quality benchmark for the starter model's first level table, on 2,000 held-out scenes. */
const starterExact = [0.9985, 0.9985, 0.9985, 0.999, 0.999, 0.9995, 0.999, 0.9915]

/**
 * Qualities of the model's calibrated table; for an uncalibrated table, those measured for the starter model.
 * @throws RangeError when there is neither
 */
export function levelQualities({ id, levels }: Pick<CaptionModel, 'id' | 'levels'>): LevelQualities {
  const calibrated = levels.map(({ quality }, level) => quality?.exact ?? (level === 0 ? 1 : undefined))
  if (calibrated.every((exact) => exact !== undefined)) return { exact: calibrated, source: 'calibrated' }
  if (levels.length === starterExact.length) return { exact: starterExact, source: 'measured' }
  throw new RangeError(`${id} has uncalibrated levels. Calibrate it: npx turbine calibrate --model DIR`)
}
