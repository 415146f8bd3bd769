import type { CostSample } from '../../processor/scheduling/cost-model.ts'
import type { Answer } from './traffic-client.ts'

/** Images of one run have started within this long of each other, as their callers see it, ms. */
const sameRunMs = 250

/**
 * Reconstructs the runs of the device from responses: images that were run together have the same level and
 * the same inference time, and started at the same time.
 * @param buckets batch sizes that the device runs, ascending
 */
export function deviceRuns(answers: readonly Answer[], buckets: readonly number[]): CostSample[] {
  const captions = answers.flatMap(({ sentMs, pruning }) =>
    pruning ? [{ startMs: sentMs + pruning.queue_ms, ...pruning }] : [],
  )
  const alike = Map.groupBy(captions, ({ prune_level, inference_ms }) => `${prune_level}/${inference_ms}`)
  return [...alike.values()].flatMap((group) =>
    consecutive(group.toSorted((a, b) => a.startMs - b.startMs)).map((images) => {
      const { prune_level: level, inference_ms: ms } = images[0]!
      const bucket = buckets.find((size) => size >= images.length) ?? buckets.at(-1)!
      return { bucket, level, ms }
    }),
  )
}

function consecutive<T extends { startMs: number }>(sorted: T[]): T[][] {
  const runs: T[][] = []
  for (const each of sorted) {
    const last = runs.at(-1)
    if (last && each.startMs - last[0]!.startMs <= sameRunMs) last.push(each)
    else runs.push([each])
  }
  return runs
}
