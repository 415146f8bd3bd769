import type { LevelQuality } from '../models/levels.ts'
import type { Schedule } from '../turbo/schedule.ts'
import { agreementScore } from './agreement.ts'

/** Schedule with its agreement on all pictures that levels are chosen by. */
export interface Outcome {
  schedule: Schedule
  /** FLOPs of the encoder over those without pruning. */
  flopShare: number
  tokensOut: number
  quality: LevelQuality
}

/** Outcomes that none with at most as many FLOPs beats, from the mildest to the hardest. */
export function paretoFront<T extends Pick<Outcome, 'flopShare' | 'quality'>>(outcomes: readonly T[]): T[] {
  const score = ({ quality }: T) => agreementScore(quality)
  const front: T[] = []
  for (const outcome of outcomes.toSorted((a, b) => a.flopShare - b.flopShare || score(b) - score(a)))
    if (front.length === 0 || score(outcome) >= score(front.at(-1)!)) front.push(outcome)
  return front.reverse()
}

/** Maximum FLOPs of a level over those of the previous level. */
const levelRatio = 0.97

/**
 * Finds the longest run through a front, mildest first, in which every step leaves fewer tokens and saves enough FLOPs; it
 * ends at the hardest. A schedule that merges early has few FLOPs and may still leave many tokens.
 */
export function descending<T extends Pick<Outcome, 'flopShare' | 'tokensOut'>>(front: readonly T[]): T[] {
  const isStep = (milder: T, harder: T) =>
    harder.tokensOut < milder.tokensOut && harder.flopShare <= levelRatio * milder.flopShare
  const runs: T[][] = []
  for (const [i, outcome] of front.entries()) {
    const before = runs
      .slice(0, i)
      .filter((run) => isStep(run.at(-1)!, outcome))
      .reduce<T[]>((longest, run) => (run.length > longest.length ? run : longest), [])
    runs.push([...before, outcome])
  }
  return runs.at(-1) ?? []
}

/**
 * Chooses at most `count` outcomes of a front, mildest first, evenly along its curve: as far apart in FLOPs (their logarithm,
 * since speeds are ratios) as in agreement. The hardest is always among them.
 */
export function spread<T extends Pick<Outcome, 'flopShare' | 'quality'>>(
  front: readonly T[],
  count: number,
): T[] {
  if (front.length <= count) return [...front]
  const positions = curvePositions(front)
  const chosen: T[] = []
  let next = 0
  for (let k = 1; k <= count; k++) {
    // As many have to be left as are still to be chosen.
    const last = front.length - 1 - (count - k)
    let nearest = k === count ? last : next
    for (let i = next; i <= last && k < count; i++)
      if (Math.abs(positions[i]! - k / count) < Math.abs(positions[nearest]! - k / count)) nearest = i
    chosen.push(front[nearest]!)
    next = nearest + 1
  }
  return chosen
}

/** Positions of the outcomes along the curve from the unpruned model, 0 to 1. */
function curvePositions(front: readonly Pick<Outcome, 'flopShare' | 'quality'>[]): number[] {
  const hardest = front.at(-1)!
  const flopRange = -Math.log(hardest.flopShare) || 1
  const scoreRange = 1 - agreementScore(hardest.quality)
  return front.map(({ flopShare, quality }) => {
    const faster = -Math.log(flopShare) / flopRange
    return scoreRange > 0 ? (faster + (1 - agreementScore(quality)) / scoreRange) / 2 : faster
  })
}

/** Outcome with its agreement on held-out pictures. */
export interface Confirmed extends Outcome {
  heldOut: LevelQuality
}

/** Level that was dropped, and why. */
export interface Dropped {
  outcome: Confirmed
  reason: string
}

export interface ConfirmOptions {
  /** Pictures that levels were chosen by, and those kept from it. */
  pictures: { search: number; heldOut: number }
  minExact: number
}

/**
 * Keeps the levels, mildest first, that held-out pictures confirm: agreement is not much lower than on the pictures that they
 * were chosen by, not below `minExact`, and no harder level agrees better.
 */
export function confirmLevels(
  levels: readonly Confirmed[],
  { pictures, minExact }: ConfirmOptions,
): { levels: Confirmed[]; dropped: Dropped[] } {
  const dropped: Dropped[] = []
  const kept: Confirmed[] = []
  for (const level of levels.toReversed()) {
    const score = agreementScore(level.heldOut)
    const best = Math.max(0, ...kept.map(({ heldOut }) => agreementScore(heldOut)))
    const reason = isMuchLower(level, pictures)
      ? 'agrees much less on held-out pictures than on those it was chosen by'
      : level.heldOut.exact < minExact
        ? 'has too few equal captions on held-out pictures'
        : score < best
          ? 'agrees less than a harder level on held-out pictures'
          : undefined
    if (reason) dropped.push({ outcome: level, reason })
    else kept.push(level)
  }
  return { levels: kept.reverse(), dropped: dropped.reverse() }
}

/** Tests for a difference beyond chance: three standard errors of the difference of the two shares of equal captions. */
function isMuchLower({ quality, heldOut }: Confirmed, pictures: ConfirmOptions['pictures']): boolean {
  const total = pictures.search + pictures.heldOut
  // One picture more on each side, so that a share of 1 is not taken for certain.
  const differing = (1 - quality.exact) * pictures.search + (1 - heldOut.exact) * pictures.heldOut
  const share = Math.min(0.5, (differing + 1) / (total + 2))
  const error = Math.sqrt(share * (1 - share) * (1 / pictures.search + 1 / pictures.heldOut))
  return quality.exact - heldOut.exact > 3 * error
}
