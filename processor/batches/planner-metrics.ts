import type { BatchStatus } from '../../edge/contract/batch.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'

/** Metrics of a planner. */
export function measurePlanner(metrics: Metrics) {
  const lines = metrics.counter({
    name: 'planned_lines_total',
    help: 'Lines of batches read and put into shards.',
  })
  const shards = metrics.counter({
    name: 'planner_shards_done_total',
    help: 'Shards counted as done by this planner.',
  })
  const ended = metrics.counter({
    name: 'batches_ended_total',
    help: 'Batches that reached their final state, by that state.',
    labelNames: ['status'],
  })
  return {
    onLines: (more: number) => lines.inc(more),
    onShardDone: () => shards.inc(),
    onEnded: (status: BatchStatus) => ended.inc({ status }),
    watch(activeBatches: () => number): void {
      metrics.gauge({
        name: 'active_batches',
        help: 'Batches that this planner looks after.',
        collect() {
          this.set(activeBatches())
        },
      })
    },
  }
}
