import type { Pruning } from '../../edge/contract/caption.ts'
import type { Captioned } from './captioner.ts'

/** The level that every image is pinned to; undefined where the load decides. `pruning` is the setting. */
export const pinnedLevel = (pruning: string): number | undefined =>
  pruning === 'adaptive' ? undefined : pruning === 'off' ? 0 : Number(pruning)

/** What a caption cost, as callers see it. */
export const pruningOf = (captioned: Captioned): Pruning => ({
  prune_level: captioned.pruneLevel,
  prune_ratio: captioned.pruneRatio,
  tokens_in: captioned.tokensIn,
  tokens_out: captioned.tokensOut,
  output_tokens: captioned.outputTokens,
  queue_ms: captioned.queueMs,
  inference_ms: captioned.inferenceMs,
  model: captioned.model,
})
