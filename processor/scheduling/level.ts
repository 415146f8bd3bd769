/** What scheduling knows of a prune level. Its index in the model's table, ascending in tokens merged, is its name. */
export interface Level {
  /** Share of the image tokens that are merged away, 0 to 1; 0 at level 0. */
  pruneRatio: number
  /** Expected cost of a run over that of the unpruned model, e.g. the share of FLOPs; 1 at level 0. */
  relativeCost: number
  /** Share of captions that are the same as unpruned ones, 0 to 1; absent where nobody measured it. */
  exact?: number
}

/** Index of the hardest level that merges at most `maxPrune` (0 to 1) of the image tokens; level 0 always may. */
export function maxAllowedLevel(levels: readonly Level[], maxPrune: number): number {
  return Math.max(
    0,
    levels.findLastIndex((level) => level.pruneRatio <= maxPrune),
  )
}

/** Interactive work has a caller who waits; batch work fills the rest. */
export const lanes = ['interactive', 'batch'] as const
export type Lane = (typeof lanes)[number]

/**
 * Images that these devices will have to serve but that are not in their line yet: records in the stream, images that
 * are still being decoded, lines of a batch that come later. Of work that several replicas share, this one's part.
 */
export interface Backlog {
  /** When they are to be done, unix ms; Infinity when they are never late. */
  deadline: number
  /** How many; may be a fraction. */
  images: number
  /** The hardest level that they may be run at. */
  maxLevel: number
}

/** Images of all of them. */
export function imagesOf(backlogs: readonly Backlog[]): number {
  return backlogs.reduce((images, backlog) => images + backlog.images, 0)
}
