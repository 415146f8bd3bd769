import type { Dropped } from '../../calibration/front.ts'
import type { LevelSpeeds, PruneLevel } from '../../models/levels.ts'
import { formatRate, formatShare } from '../format.ts'
import { formatTable } from '../table.ts'

/** Calibrations in words. */

/** A table of levels: `level  tokens  merged  FLOPs  images/s  equal captions  CIDEr-D`. */
export function levelLines(
  levels: readonly PruneLevel[],
  { images_per_second: speeds }: LevelSpeeds,
): string {
  const head = ['level', 'tokens', 'merged', 'FLOPs', 'images/s', 'equal captions', 'CIDEr-D']
  const rows = levels.map(({ tokensOut, pruneRatio, flopShare, quality }, level) => [
    `${level}`,
    `${tokensOut}`,
    formatShare(pruneRatio),
    formatShare(flopShare),
    formatRate(speeds[level]!),
    quality ? percent(quality.exact) : '',
    quality ? percent(quality.cider) : '',
  ])
  return formatTable([head, ...rows], { right: head.map((_, column) => column) })
}

/** `Left out: 62 tokens, 38 % of FLOPs: agrees less than a harder level on held-out pictures (99.0 %).` */
export const droppedLine = ({ outcome, reason }: Dropped): string =>
  `Left out: ${outcome.tokensOut} tokens, ${formatShare(outcome.flopShare)} of FLOPs: ${reason} ` +
  `(equal captions: ${percent(outcome.quality.exact)} when chosen, ${percent(outcome.heldOut.exact)} held out).`

/** A few of the pictures that cannot be read, and how many more there are. */
export function unreadableLines(unreadable: readonly string[], shown = 5): string[] {
  const more = unreadable.length - shown
  return more > 0 ? [...unreadable.slice(0, shown), `... and ${more} more cannot be read.`] : [...unreadable]
}

/** One digit behind the point: half a per cent matters here. */
const percent = (share: number) => `${(100 * share).toFixed(1)} %`
