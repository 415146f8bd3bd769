import { randomUUID } from 'node:crypto'
import type { BatchBacklog } from '../../../edge/contract/backlog.ts'
import type { BatchStatus } from '../../../edge/contract/batch.ts'
import { decodeControl } from '../../../edge/contract/shard.ts'
import { groups, topics } from '../../../edge/contract/topics.ts'
import type { Stream } from '../../../infra/stream/stream.ts'
import type { Metrics } from '../../../infra/telemetry/metrics.ts'
import { sleep, valueWithin } from '../../../infra/timing.ts'
import { type DeadLetterOptions, withDeadLetters } from '../../delivery/dead-letters.ts'
import { Outages } from '../../delivery/outages.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import { Coordinator, type CoordinatorOptions } from './coordinator.ts'

/** Control records handled at the same time: handling one takes no time. */
const maxInFlight = 256

export interface PlannerOptions extends Pick<CoordinatorOptions, 'store' | 'buckets' | 'log' | 'repay'> {
  stream: Pick<Stream, 'consume' | 'send'>
  /** Unix ms. */
  now(): number
  metrics?: Metrics
  /** Called with every record that was given up. */
  onDeadLetter?: DeadLetterOptions['onDeadLetter']
  /**
   * Names this planner in the store. A planner of the same name takes its batches over at once; only where there
   * can be but one may it be the same after a restart. Default: a new name.
   */
  owner?: string
}

export interface Planner {
  /** Batches that it runs. */
  activeBatches(): number
  /** Lets go of its batches; other planners, or its next start, go on with them. Waits at most `drainMs`. */
  close(drainMs: number): Promise<void>
}

/**
 * Plans and coordinates batches: cuts manifests into shards, sends them, counts what is done, puts the results
 * together. Any number of planners share the batches; when one dies, the others take its batches over.
 *
 * @throws StreamUnavailableError
 * @example
 * const planner = await startPlanner({ store, stream, now: Date.now, log })
 * await planner.close(5000)
 */
export async function startPlanner(options: PlannerOptions): Promise<Planner> {
  const { store, buckets, stream, now, log, repay, onDeadLetter, owner = randomUUID() } = options
  const clock = { now, sleep }
  const measured = options.metrics && measurePlanner(options.metrics)
  const outages = new Outages({ clock, log })
  const coordinator = new Coordinator({
    ...{ store, buckets, stream, clock, outages, owner, log, repay },
    ...measured,
  })
  measured?.watch(coordinator, now)
  const consumer = await stream.consume({
    topic: topics.control,
    group: groups.control,
    maxInFlight,
    handle: withDeadLetters(
      { handle: async (record) => coordinator.handle(decodeControl(record)) },
      { stream, onDeadLetter },
    ),
    onError: (err) => log.warn({ err }, 'record handler failed, retrying'),
  })
  coordinator.start()
  return {
    activeBatches: () => coordinator.activeBatches,
    async close(drainMs) {
      await consumer.close(drainMs)
      await valueWithin(drainMs, coordinator.close())
    },
  }
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
    watch(state: Pick<Coordinator, 'activeBatches' | 'backlogs'>, now: () => number): void {
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
        state.backlogs.reduce((sum, { linesLeft }) => sum + linesLeft, 0),
      )
      show(
        'batch_needed_lines_per_second',
        'Rate at which lines must be done for all batches of this planner to be in time.',
        () => pressingRate(state.backlogs.map(loadOf), now()),
      )
      show(
        'batch_least_seconds_left',
        'Time until the first batch of this planner with lines left is due; +Inf without one.',
        () => Math.min(...state.backlogs.map(({ deadline }) => (deadline - now()) / 1000)),
      )
    },
  }
}

const loadOf = ({ deadline, linesLeft }: BatchBacklog) => ({ deadline, images: linesLeft })
