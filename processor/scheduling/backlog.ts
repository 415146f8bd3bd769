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
  hardest: number
}

/** Images of all of them. */
export function imagesOf(backlogs: readonly Backlog[]): number {
  return backlogs.reduce((images, backlog) => images + backlog.images, 0)
}
