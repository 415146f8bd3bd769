import { type EncoderShape, flopShare } from '../turbo/flops.ts'
import { type Schedule, semanticWeights, tokenCounts } from '../turbo/schedule.ts'

/** Schedule whose weights follow from a rule, so that they suit any r. */
export interface Candidate {
  /** Image tokens to merge in each layer. */
  r: number[]
  /** Strength of the semantic weight; 0 is ToMe. */
  alpha: number
  /** The first layer that weighs. */
  from: number
}

/** Share of the tokens merged in one layer over that of the layer before: 1 is the paper's constant r. */
const decays = [0.45, 0.55, 0.65, 0.75, 0.87, 1]
/** Strengths tried at first, and beside the best candidates; the paper's is 5. */
const alphas = { first: [1], later: [0.1, 0.3, 1, 5] }

/** Makes the schedule that a graph runs with. */
export function toSchedule({ r, alpha, from }: Candidate): Schedule {
  const weight = semanticWeights(r, { alpha }).map((value, layer) => (layer < from ? 0 : value))
  return { r, weight }
}

/**
 * Makes schedules of about the target's FLOPs, and no more. r falls by the same factor from layer to layer, from the first
 * layer on or a little later; each as ToMe, with the semantic weight everywhere, and with it in the later half.
 *
 * @param target FLOPs of the encoder over those without pruning
 */
export function family(encoder: EncoderShape, target: number): Candidate[] {
  const { layers } = encoder
  const starts = [...new Set([0, Math.floor(layers / 6)])]
  const schedules = starts.flatMap((start) =>
    decays.flatMap((decay) => {
      const shape = Array.from({ length: layers }, (_, layer) =>
        layer < start ? 0 : decay ** (layer - start),
      )
      const r = reaching(encoder, target, shape)
      return r ? [r] : []
    }),
  )
  return distinct(schedules.flatMap((r) => weighted(r, alphas.first)))
}

/** The candidate with all its r scaled up or down to the target; undefined where no scale reaches it. */
export function rescaled(encoder: EncoderShape, target: number, candidate: Candidate): Candidate | undefined {
  const r = reaching(encoder, target, candidate.r)
  return r && { ...candidate, r }
}

/**
 * Makes neighbours of a candidate at equal FLOPs: one layer merges more or less and the others make up for it, or other weights.
 *
 * @param size share of its r by which a layer is moved
 */
export function neighbours(
  encoder: EncoderShape,
  target: number,
  candidate: Candidate,
  size: number,
): Candidate[] {
  const moved = candidate.r.flatMap((value, layer) => {
    const change = Math.max(1, Math.round(size * value))
    return [value + change, Math.max(0, value - change)].flatMap((fixed): Candidate[] => {
      const r = reaching(encoder, target, candidate.r, { layer, r: fixed })
      return r ? [{ ...candidate, r }] : []
    })
  })
  const all = distinct([candidate, ...moved, ...weighted(candidate.r, alphas.later)])
  return all.slice(1)
}

function weighted(r: number[], strengths: number[]): Candidate[] {
  const late = Math.floor(r.length / 2)
  const semantic = strengths.flatMap((alpha) => [0, late].map((from) => ({ r, alpha, from })))
  return [{ r, alpha: 0, from: 0 }, ...semantic]
}

/** The first of those that run alike. */
function distinct(candidates: Candidate[]): Candidate[] {
  const alike = Map.groupBy(candidates, (candidate) => scheduleKey(toSchedule(candidate)))
  return [...alike.values()].map(([first]) => first!)
}

/** Key that is equal for schedules that run alike. */
export const scheduleKey = ({ r, weight }: Schedule): string => `${r.join(',')} ${weight.join(',')}`

/** Sizes of a shape that are tried: steps of a fifth of a token in the layer that merges most, for 200 tokens. */
const scales = 500

/**
 * Finds the size of a shape whose FLOPs, as the layers really merge, come closest to the target from below; undefined where
 * none reaches it. It tries all sizes: a layer that merges more can leave too few tokens for the next ones to merge at all,
 * so FLOPs do not fall steadily.
 *
 * @param fixed r of one layer, whatever the others do
 */
function reaching(
  encoder: EncoderShape,
  target: number,
  shape: number[],
  fixed?: { layer: number; r: number },
): number[] | undefined {
  const largest = Math.max(...shape.filter((_, layer) => layer !== fixed?.layer))
  if (!(largest > 0)) return undefined
  let closest: { r: number[]; share: number } | undefined
  for (let i = 0; i <= scales; i++) {
    const scale = (i * encoder.tokens) / (2 * scales * largest)
    const sized = shape.map((value, layer) => (layer === fixed?.layer ? fixed.r : Math.round(scale * value)))
    const r = effective(encoder, sized)
    const share = flopShare(encoder, r)
    if (share <= target && share > (closest?.share ?? 0)) closest = { r, share }
  }
  return closest?.r
}

/** r as the layers really merge it: what a layer cannot merge is left out. */
function effective({ tokens }: EncoderShape, r: number[]): number[] {
  const counts = tokenCounts(tokens, r)
  return r.map((_, layer) => counts[layer]! - counts[layer + 1]!)
}
