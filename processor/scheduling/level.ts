/** Prune level as scheduling sees it; its number is the index in the model's table, ascending in tokens merged. */
export interface Level {
  /** Share of the image tokens that are merged away, 0 to 1; 0 at level 0. */
  pruneRatio: number
  /** Expected cost of a run over that of the unpruned model, e.g. the share of FLOPs; 1 at level 0. */
  relativeCost: number
  /** Share of captions that are the same as unpruned ones, 0 to 1; absent where nobody measured it. */
  exact?: number
}

/** Highest level that merges at most `maxPrune` (0 to 1) of the image tokens; level 0 always may. */
export function maxAllowedLevel(levels: readonly Level[], maxPrune: number): number {
  return Math.max(
    0,
    levels.findLastIndex((level) => level.pruneRatio <= maxPrune),
  )
}

/** An interactive image has a caller who waits; batch work fills the rest. */
export const lanes = ['interactive', 'batch'] as const
export type Lane = (typeof lanes)[number]

/**
 * Images that are not in the queue yet and will be served by these devices: records in the stream, images being decoded,
 * lines of a batch that are still to come. Of work that several replicas share, this one's part.
 */
export interface Backlog {
  /** Unix ms; Infinity when they are never late. */
  deadline: number
  /** May be a fraction. */
  images: number
  /** Highest level that they may run at. */
  maxLevel: number
}

/** Sum of their images. */
export function imagesOf(backlogs: readonly Backlog[]): number {
  return backlogs.reduce((images, backlog) => images + backlog.images, 0)
}
