import type { BatchStatus } from '../../../edge/contract/batch.ts'
import type { BatchPace } from '../../../edge/contract/pace.ts'
import type { Metrics } from '../../../infra/telemetry/metrics.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'

/** What the gauges show. */
export interface PlannerState {
  activeBatches: number
  paces: readonly BatchPace[]
}

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
    /** @param now unix ms */
    watch(state: PlannerState, now: () => number): void {
      const show = (name: string, help: string, value: () => number) =>
        metrics.gauge({
          name,
          help,
          collect() {
            this.set(value())
          },
        })
      show('active_batches', 'Batches that this planner looks after.', () => state.activeBatches)
      show('batch_lines_left', 'Lines without a result, of the batches that this planner looks after.', () =>
        state.paces.reduce((sum, { linesLeft }) => sum + linesLeft, 0),
      )
      show(
        'batch_needed_lines_per_second',
        'Rate at which lines must be done for all batches of this planner to be in time.',
        () => pressingRate(state.paces.map(loadOf), now()),
      )
      show(
        'batch_least_seconds_left',
        'Time until the first batch of this planner with lines left is due; +Inf without one.',
        () => Math.min(...state.paces.map(({ deadline }) => (deadline - now()) / 1000)),
      )
    },
  }
}

const loadOf = ({ deadline, linesLeft }: BatchPace) => ({ deadline, images: linesLeft })
