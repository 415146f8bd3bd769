import type { Pruning } from '../../edge/contract/caption.ts'
import type { Lane } from '../scheduling/level.ts'

/** One image to caption. Times are unix ms. */
export interface CaptionTask {
  /** An encoded image: JPEG, PNG, WebP, GIF, TIFF, AVIF, SVG is refused. */
  image: Uint8Array
  lane: Lane
  /** Default: now. */
  acceptedAt?: number
  /** Absent: never late, so never pruned. */
  deadline?: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
  /** Text that the caption continues. */
  prompt?: string
  /** Pins a prune level instead of letting the load decide. */
  level?: number
  /** Work for devices that have nothing else to do: it comes after everything that waits. Default: false. */
  idle?: boolean
  signal?: AbortSignal
}

export interface Captioned {
  caption: string
  /** What it cost, as callers see it: `queue_ms` is from acceptance to the start of the batch that the image was in. */
  turbine: Pruning
}

/** Images in, captions out: decoding, queue, batches and devices behind one call. */
export interface Captioner {
  /** Id of the served model. */
  readonly model: string
  /** Images it can work on at once without any device waiting: keep about this many calls open. */
  readonly concurrency: number
  /**
   * @throws TurbineError `image_*` for an image that cannot be captioned (that one alone), `queue_full` with
   * `retryAfterSeconds`, `shutting_down`.
   */
  caption(task: CaptionTask): Promise<Captioned>
  /** Lets accepted work finish, then frees the devices. */
  close(): Promise<void>
}

/** The level that every image is pinned to; undefined where the load decides. `pruning` is the setting. */
export const pinnedLevel = (pruning: string): number | undefined =>
  pruning === 'adaptive' ? undefined : pruning === 'off' ? 0 : Number(pruning)
