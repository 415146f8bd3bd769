import type { LevelQuality } from '../models/levels.ts'
import { type EncoderShape, flopShare } from '../turbo/flops.ts'
import { type Schedule, tokenCounts } from '../turbo/schedule.ts'
import { agreementScore } from './agreement.ts'
import { type Candidate, family, neighbours, rescaled, scheduleKey, toSchedule } from './candidates.ts'
import type { Outcome } from './front.ts'
import { paretoFront } from './front.ts'
import { captionsOf, halve, type Stage } from './halving.ts'

export interface SearchOptions {
  encoder: EncoderShape
  /** Number of pictures. */
  pictures: number
  /** Minimum share of equal captions. */
  minExact: number
  /** Agreement with the unpruned captions on the first so many pictures. */
  compare(schedule: Schedule, pictures: number): Promise<LevelQuality>
  /** Receives an estimate of the captions still to be made. */
  onAhead?(captions: number): void
}

/** Version of the search: outcomes of different versions may differ. */
export const searchVersion = 1

/** FLOPs of each step of the survey over those of the step before. */
const surveyStep = 0.85
/** Steps through the range in which captions get worse, even ones first, then where agreement falls most. */
const fineTargets = { even: 6, gaps: 6 }
/** Ratio of FLOPs above which no schedule is searched in between. */
const closeRatio = 0.985
/** Share of a layer's r by which it is moved, round by round. */
const moveSizes = [0.2, 0.08]
/** Candidates inherited from the nearest FLOPs. */
const successors = 6

/**
 * Searches schedules. A survey goes down in FLOPs through families of schedules until captions differ too much; then the
 * range in which captions get worse is searched in finer steps, where the best schedules are refined layer by layer.
 *
 * @returns every schedule that was compared on all pictures
 */
export async function searchSchedules(options: SearchOptions): Promise<Outcome[]> {
  const search = new Search(options)
  const steps = surveySteps(options.encoder)
  const surveyed: { target: number; best: Outcome }[] = []
  for (const [i, step] of steps.entries()) {
    search.reportAhead(steps.slice(i), fineTargets.even + fineTargets.gaps)
    const best = await search.survey(step)
    surveyed.push({ target: step.target, best })
    if (best.quality.exact < options.minExact) break
  }
  const fine = worseningTargets(surveyed)
  for (const [i, target] of fine.entries()) {
    search.reportAhead([], fine.length - i + fineTargets.gaps)
    await search.refine(target)
  }
  for (let i = 0; i < fineTargets.gaps; i++) {
    search.reportAhead([], fineTargets.gaps - i)
    const target = largestGap(search.outcomes(), options.minExact)
    if (target === undefined) break
    await search.refine(target)
  }
  search.reportAhead([], 0)
  return search.outcomes()
}

/** One step of the survey. */
interface SurveyStep {
  /** FLOPs of the encoder over those without pruning. */
  target: number
  family: Candidate[]
}

/** Descending in FLOPs, as far as schedules reach. */
function surveySteps(encoder: EncoderShape): SurveyStep[] {
  const steps: SurveyStep[] = []
  for (let target = surveyStep; ; target *= surveyStep) {
    const step = { target, family: family(encoder, target) }
    if (step.family.length === 0) return steps
    steps.push(step)
  }
}

/** Estimates the maximum number of captions of a search. */
export function plannedCaptions(encoder: EncoderShape, pictures: number): number {
  return captionsAhead({ encoder, pictures }, surveySteps(encoder), fineTargets.even + fineTargets.gaps)
}

function captionsAhead(
  { encoder, pictures }: Pick<SearchOptions, 'encoder' | 'pictures'>,
  steps: SurveyStep[],
  fine: number,
): number {
  const surveys = steps.map(({ family }) => captionsOf(family.length, surveyStages(pictures)))
  const stages = refineStages(pictures)
  const refining = captionsOf(successors, stages) + moveSizes.length * captionsOf(2 * encoder.layers, stages)
  return surveys.reduce((sum, captions) => sum + captions, fine * refining)
}

const surveyStages = (pictures: number): Stage[] => [
  { pictures: Math.min(32, pictures), keep: 9 },
  { pictures: Math.min(96, pictures), keep: 3 },
  { pictures, keep: 1 },
]

const refineStages = (pictures: number): Stage[] => [
  { pictures: Math.min(64, pictures), keep: 3 },
  { pictures, keep: 1 },
]

/** From the hardest FLOPs at which all captions stay as they are to those that are too hard, in even ratios. */
function worseningTargets(surveyed: { target: number; best: Outcome }[]): number[] {
  const firstWorse = surveyed.findIndex(({ best }) => agreementScore(best.quality) < 1)
  if (firstWorse < 0) return []
  const from = surveyed[firstWorse - 1]?.target ?? 1
  const to = surveyed.at(-1)!.target
  const { even } = fineTargets
  return Array.from({ length: even }, (_, i) => from * (to / from) ** ((i + 1) / even))
}

/** FLOPs in the middle of the largest fall of agreement between neighbours of the front, down to `minExact`. */
function largestGap(outcomes: Outcome[], minExact: number): number | undefined {
  const front = paretoFront(outcomes)
  const end = front.findIndex(({ quality }) => quality.exact < minExact)
  const gaps = front
    .slice(1, end < 0 ? undefined : end + 1)
    .map((harder, i) => ({ milder: front[i]!, harder }))
    .filter(({ milder, harder }) => harder.flopShare / milder.flopShare < closeRatio)
    .map(({ milder, harder }) => ({
      fall: agreementScore(milder.quality) - agreementScore(harder.quality),
      middle: Math.sqrt(milder.flopShare * harder.flopShare),
    }))
    .toSorted((a, b) => b.fall - a.fall)
  return gaps[0] && gaps[0].fall > 0 ? gaps[0].middle : undefined
}

class Search {
  readonly #options: SearchOptions
  /** Compared on all pictures, by key of the schedule. */
  readonly #compared = new Map<string, { candidate: Candidate; outcome: Outcome }>()

  constructor(options: SearchOptions) {
    this.#options = options
  }

  outcomes(): Outcome[] {
    return [...this.#compared.values()].map(({ outcome }) => outcome)
  }

  reportAhead(steps: SurveyStep[], fine: number): void {
    this.#options.onAhead?.(captionsAhead(this.#options, steps, fine))
  }

  /** The best of the family, and of what did best so far, at these FLOPs. */
  async survey({ target, family }: SurveyStep): Promise<Outcome> {
    const stages = surveyStages(this.#options.pictures)
    const candidates = [...this.#successors(target), ...family]
    // Where few tokens merge nearly all schedules lose nothing, and none of the others can be better.
    const first = await this.#best(candidates.slice(0, 2), stages)
    if (agreementScore(first.outcome.quality) === 1) return first.outcome
    return (await this.#best(candidates, stages)).outcome
  }

  /** Moves layers of the best schedule at these FLOPs; undefined where no schedule reaches them. */
  async refine(target: number): Promise<Outcome | undefined> {
    const { encoder, pictures } = this.#options
    const stages = refineStages(pictures)
    const candidates = this.#successors(target)
    if (candidates.length === 0) return undefined
    let best = await this.#best(candidates, stages)
    for (const size of moveSizes) {
      if (agreementScore(best.outcome.quality) === 1) break
      const moves = neighbours(encoder, target, best.candidate, size)
      if (moves.length === 0) continue
      const moved = await this.#best(moves, stages)
      if (agreementScore(moved.outcome.quality) > agreementScore(best.outcome.quality)) best = moved
    }
    return best.outcome
  }

  /** The best schedules of the nearest FLOPs so far, brought to these. */
  #successors(target: number): Candidate[] {
    const { encoder } = this.#options
    const distance = ({ flopShare }: Outcome) => Math.abs(Math.log(flopShare / target))
    const nearest = [...this.#compared.values()]
      .toSorted((a, b) => distance(a.outcome) - distance(b.outcome))
      .slice(0, 12)
      .toSorted((a, b) => agreementScore(b.outcome.quality) - agreementScore(a.outcome.quality))
    return nearest.flatMap(({ candidate }) => rescaled(encoder, target, candidate) ?? []).slice(0, successors)
  }

  async #best(candidates: Candidate[], stages: Stage[]) {
    const { compare, pictures: all } = this.#options
    const best = await halve(candidates, stages, async (candidate, pictures) => {
      const quality = await compare(toSchedule(candidate), pictures)
      if (pictures === all) this.#keep(candidate, quality)
      return agreementScore(quality)
    })
    return this.#compared.get(scheduleKey(toSchedule(best)))!
  }

  #keep(candidate: Candidate, quality: LevelQuality): void {
    const { encoder } = this.#options
    const schedule = toSchedule(candidate)
    const outcome = {
      schedule,
      flopShare: flopShare(encoder, schedule.r),
      tokensOut: tokenCounts(encoder.tokens, schedule.r).at(-1)!,
      quality,
    }
    this.#compared.set(scheduleKey(schedule), { candidate, outcome })
  }
}
