import type { CostModel } from './cost-model.ts'
import type { Tally } from './deadline-order.ts'
import { work } from './prune-controller.ts'
import type { ImageQueue } from './queue.ts'

/** Whether one more interactive image can be taken, and if not, why and when to repeat. */
export type Admission =
  | { admitted: true }
  | { admitted: false; reason: 'full' | 'late'; retryAfterSeconds: number }

export interface AdmissionOptions {
  queue: Pick<ImageQueue<unknown>, 'line' | 'isFull'>
  costs: CostModel
  /** Default 1. */
  devices?: number
  /** Time within which an interactive image should be done, ms; default 500. */
  interactiveTargetMs?: number
}

/** An image is refused when it would wait this many times longer than it has. */
const hopelessFactor = 2

/**
 * Looks whether an interactive image with this `deadline` (unix ms; absent: never late) can be taken at `now`. It
 * cannot when the lane is full, or when the images that would be served before it take, at the hardest level, more
 * than twice as long as it has; an image always has the interactive target at least, since a caller with a shorter
 * deadline asked for speed and not for a refusal. `retryAfterSeconds` is when the present line will have been served.
 */
export function admission(
  { queue, costs, devices = 1, interactiveTargetMs = 500 }: AdmissionOptions,
  { deadline = Number.POSITIVE_INFINITY }: { deadline?: number },
  now: number,
): Admission {
  const line = queue.line('interactive')
  const msPerImage = costs.fastestUpTo()
  const servedInMs = (tally: Tally) => work(tally, msPerImage, msPerImage.length - 1) / devices
  const hasMs = Math.max(deadline - now, interactiveTargetMs)
  const full = queue.isFull('interactive')
  if (!full && servedInMs(line.aheadOf(deadline)) <= hopelessFactor * hasMs) return { admitted: true }
  return {
    admitted: false,
    reason: full ? 'full' : 'late',
    retryAfterSeconds: Math.max(1, Math.ceil(servedInMs(line.tally) / 1000)),
  }
}
