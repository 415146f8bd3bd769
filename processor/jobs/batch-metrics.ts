import type { Metrics } from '../../infra/telemetry/metrics.ts'
import type { LineOutcome } from '../batches/shard/line.ts'

/**
 * What became of a shard: `known` when its results lay in the store already; `repaid` when its pruned lines were
 * captioned again, or those for which there was time.
 */
export type ShardEnd = 'done' | 'known' | 'cancelled' | 'dead' | 'repaid'

/** Metrics of the batch lane. */
export function measureBatches(metrics: Metrics) {
  const shards = metrics.counter({
    name: 'shards_total',
    help: 'Shards of batches handled, by what became of them.',
    labelNames: ['end'],
  })
  const lines = metrics.counter({
    name: 'batch_lines_total',
    help: 'Lines of batches handled, by the code of their error; completed lines have the code ok.',
    labelNames: ['code'],
  })
  const repaid = metrics.counter({
    name: 'batch_lines_repaid_total',
    help: 'Lines of batches that were pruned and were captioned again at full quality.',
  })
  const inFlight = metrics.gauge({
    name: 'batch_lines_in_flight',
    help: 'Lines of batches whose image is being fetched or captioned.',
  })
  const fetching = metrics.histogram({
    name: 'batch_image_fetch_seconds',
    help: 'Time to fetch the image of a line.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })

  return {
    onShard: (end: ShardEnd) => shards.inc({ end }),
    onLine: (outcome: LineOutcome) => lines.inc({ code: 'captioned' in outcome ? 'ok' : outcome.code }),
    onFailed: (code: string, count: number) => lines.inc({ code }, count),
    onRepaid: (count: number) => repaid.inc(count),
    onInFlight: (change: 1 | -1) => inFlight.inc(change),
    onFetched: (seconds: number) => fetching.observe(seconds),
  }
}
