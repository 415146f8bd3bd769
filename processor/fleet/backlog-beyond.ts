import type { BatchPace } from '../../edge/contract/pace.ts'
import type { Backlog } from '../scheduling/backlog.ts'
import { hardestAllowed, type Level } from '../scheduling/level.ts'

export interface BatchBacklogOptions {
  levels: readonly Level[]
  /** Images of batches that wait in the queue: they are in the counts of their batches too. */
  queued: number
}

/** What is to come of the batches, those due first first; `share` is what falls to this processor. */
export function batchBacklog(
  share: readonly BatchPace[],
  { levels, queued }: BatchBacklogOptions,
): Backlog[] {
  let known = queued
  return share
    .toSorted((a, b) => a.deadline - b.deadline)
    .flatMap(({ deadline, linesLeft, maxPrune }) => {
      const images = Math.max(0, linesLeft - known)
      known = Math.max(0, known - linesLeft)
      return images > 0 ? [{ deadline, images, hardest: hardestAllowed(levels, maxPrune) }] : []
    })
}

export interface StreamBacklogOptions {
  levels: readonly Level[]
  /** Interactive records of the whole fleet that are not finished. */
  lag: number
  /** Processors that share them. */
  replicas: number
  /** Records that this processor has in hand, and how many it takes at most. */
  inFlight: number
  limit: number
  /** When what is still in the stream is wanted, unix ms. */
  deadline: number
}

/** Interactive images that this processor will have to fetch: none while it has room, since it takes all there is. */
export function streamBacklog({
  levels,
  lag,
  replicas,
  inFlight,
  limit,
  deadline,
}: StreamBacklogOptions): Backlog[] {
  const images = Math.ceil(lag / Math.max(1, replicas)) - inFlight
  if (inFlight < limit || images <= 0) return []
  return [{ deadline, images, hardest: levels.length - 1 }]
}
