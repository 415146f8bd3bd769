import type { LevelQuality } from '../models/levels.ts'
import type { EncoderShape } from '../turbo/flops.ts'
import { perLayer, type Schedule } from '../turbo/schedule.ts'
import type { Outcome } from './front.ts'
import { type Confirmed, confirmLevels, type Dropped, descending, paretoFront, spread } from './front.ts'
import { searchSchedules } from './search.ts'
import type { Speed } from './speed.ts'

/** Agreement with the unpruned captions on the first so many pictures of a part. */
type Compare = (schedule: Schedule, pictures: number) => Promise<LevelQuality>

export interface CalibrationOptions {
  encoder: EncoderShape
  /** Number of pictures for choosing and for confirming levels. */
  pictures: { search: number; heldOut: number }
  compare: { search: Compare; heldOut: Compare }
  /** Levels at most, the unpruned one included. */
  levels: number
  /** Minimum share of equal captions of a level. */
  minExact: number
  measureSpeeds(schedules: Schedule[]): Promise<Speed[]>
  /** Receives the number of captions still to be made. */
  onAhead?(captions: number): void
}

/** A level of the table that a calibration found. */
interface CalibratedLevel {
  schedule: Schedule
  /** On held-out pictures. */
  quality: LevelQuality
  speed: Speed
}

export interface CalibrationResult {
  /** Level 0 first. */
  levels: CalibratedLevel[]
  /** Chosen levels that were not confirmed. */
  dropped: Dropped[]
  /** All schedules that were compared on all search pictures. */
  outcomes: Outcome[]
}

/**
 * Finds a model's prune levels: searches schedules on one part of the pictures, spreads levels over the front, and
 * keeps those that the other part confirms and that are faster than the level before.
 */
export async function calibrateLevels(options: CalibrationOptions): Promise<CalibrationResult> {
  const { encoder, pictures, compare, minExact, onAhead } = options
  const outcomes = await searchSchedules({
    encoder,
    pictures: pictures.search,
    minExact,
    compare: compare.search,
    onAhead: (captions) => onAhead?.(captions + options.levels * pictures.heldOut),
  })
  const front = descending(paretoFront(outcomes.filter(({ quality }) => quality.exact >= minExact)))
  const confirmed: Confirmed[] = []
  for (const outcome of spread(front, options.levels - 1))
    confirmed.push({ ...outcome, heldOut: await compare.heldOut(outcome.schedule, pictures.heldOut) })
  const { levels, dropped } = confirmLevels(confirmed, { pictures, minExact })
  onAhead?.(0)
  const r = perLayer(0, encoder.layers)
  const none = { r, weight: r }
  // Of int8 level 0 is compared with float32; else its captions are those that it is compared with.
  const unpruned = { schedule: none, quality: await compare.heldOut(none, pictures.heldOut) }
  const speeds = await options.measureSpeeds([unpruned, ...levels].map(({ schedule }) => schedule))
  const faster: CalibratedLevel[] = [{ ...unpruned, speed: speeds[0]! }]
  for (const [i, level] of levels.entries()) {
    const speed = speeds[i + 1]!
    if (speed.best > faster.at(-1)!.speed.best)
      faster.push({ schedule: level.schedule, quality: level.heldOut, speed })
    else dropped.push({ outcome: level, reason: 'is no faster than the level before' })
  }
  return { levels: faster, dropped, outcomes }
}
