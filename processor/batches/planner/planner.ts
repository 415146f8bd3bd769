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

/** Concurrent control records; handling one is quick. */
const maxInFlight = 256

export interface PlannerOptions
  extends Pick<
    CoordinatorOptions,
    'isolation' | 'holdMs' | 'store' | 'buckets' | 'ownBucket' | 'log' | 'repay' | 'ownTopics'
  > {
  stream: Pick<Stream, 'consume' | 'send'>
  /** Unix ms. */
  now(): number
  metrics?: Metrics
  /** Called with every dead letter. */
  onDeadLetter?: DeadLetterOptions['onDeadLetter']
  /**
   * Name of this planner in the store. A planner takes batches of its own name over at once, so a name may survive a
   * restart only where there is a single planner. Default: a new name.
   */
  owner?: string
}

export interface Planner {
  activeBatches(): number
  /** Releases its batches to other planners, or to its next start. Waits at most `drainMs`. */
  close(drainMs: number): Promise<void>
}

/**
 * Starts a planner: it cuts manifests into shards, sends them, counts finished ones and joins the results. Any number
 * of planners share the batches; when one dies, the others take its batches over.
 *
 * @throws StreamUnavailableError
 * @example const planner = await startPlanner({ store, stream, now: Date.now, log })
 */
export async function startPlanner(options: PlannerOptions): Promise<Planner> {
  const { store, buckets, ownBucket, stream, now, log, repay, onDeadLetter, owner = randomUUID() } = options
  const clock = { now, sleep }
  const measured = options.metrics && measurePlanner(options.metrics)
  const outages = new Outages({ clock, log })
  const coordinator = new Coordinator({
    ...{ store, buckets, ownBucket, stream, clock, outages, owner, log, repay },
    ...{ isolation: options.isolation, holdMs: options.holdMs, ownTopics: options.ownTopics },
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
      show('active_batches', 'Batches that this planner runs.', () => state.activeBatches)
      show('batch_lines_left', 'Lines without a result, of the batches that this planner runs.', () =>
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
