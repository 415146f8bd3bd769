import type { CaptionEnd, CaptionText, FinishReason, Pruning } from '../../edge/contract/caption.ts'
import type { Capabilities } from '../../edge/contract/model.ts'
import type { GenerationSettings } from '../models/generation.ts'
import type { PromptRequest } from '../models/prompts.ts'
import type { Lane } from '../scheduling/level.ts'

/** One caption to make, of one image where the model takes no more. Times are unix ms. */
export interface CaptionTask extends CaptionEnd {
  /** Encoded, in a format that is decoded. */
  image: Uint8Array
  /** All images of the caption, `image` the first of them; default: it alone. */
  images?: readonly Uint8Array[]
  lane: Lane
  /** Tenant; tenants share decoders fairly. */
  owner?: string
  /** Default: now. */
  acceptedAt?: number
  /** Absent: never late, so never pruned. */
  deadline?: number
  /** Maximum share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
  /** Text that the caption continues. */
  prompt?: string
  /** What the model is asked. */
  request?: Partial<Omit<PromptRequest, 'pictures'>>
  /** Maximum pixels of each picture that the model sees, where that is a choice; default: as its folder says. */
  maxPixels?: number
  /** How the words are chosen, where that is not as the model's defaults are. */
  settings?: Partial<GenerationSettings>
  /** Pins a prune level instead of letting the load decide. */
  level?: number
  /** Run only on idle devices, after everything that waits. Default: false. */
  idle?: boolean
  /** Called with the caption so far, as it grows, by models that make it step by step. What was shown stays. */
  onText?(text: string): void
  signal?: AbortSignal
}

export interface Captioned {
  caption: string
  finish_reason: FinishReason
  /** Pruning and cost, as returned to callers. */
  turbine: Pruning
}

/** Images in, captions out: decoding, queue, batches and devices behind one call. */
export interface Captioner {
  /** Id of the served model. */
  readonly model: string
  /** Concurrent calls that keep all devices busy. */
  readonly concurrency: number
  /** What the model can; default: what BLIP can. */
  readonly can?: Capabilities
  /** What it is asked by requests that ask nothing; default: nothing. */
  readonly byDefault?: CaptionText | undefined
  /** What its folder says of generation and is not honoured; default: nothing. */
  readonly unhonoured?: readonly string[] | undefined
  /**
   * @throws TurbineError `image_*` for an image that cannot be captioned, `queue_full` with `retryAfterSeconds`,
   * `shutting_down`
   */
  caption(task: CaptionTask): Promise<Captioned>
  /** Finishes accepted work, then frees the devices. */
  close(): Promise<void>
}

/** Level that the setting `pruning` pins every image to; undefined if the load decides. */
export const pinnedLevel = (pruning: string): number | undefined =>
  pruning === 'adaptive' ? undefined : pruning === 'off' ? 0 : Number(pruning)
