import type { BatchBacklog } from '../../edge/contract/backlog.ts'
import { jobTopic } from '../../edge/contract/topics.ts'
import type { Backends } from '../../infra/backends.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { GroupState, Stream } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { type RepeatOptions, repeat } from '../../infra/timing.ts'
import { type DesiredReplicas, desiredReplicas } from '../scheduling/desired-replicas.ts'
import { type Backlog, type Lane, type Level, lanes, maxAllowedLevel } from '../scheduling/level.ts'
import { createBacklogs } from './batch-progress.ts'

export interface FleetWatchOptions extends Pick<RepeatOptions, 'log' | 'sleep'> {
  stream: Pick<Stream, 'groupState'>
  /** Whose load it is. */
  model(): string
  /** Its jobs are in topics of its own; default: in those that are shared. */
  ownTopics?: boolean
  /** Backlogs of the whole fleet. */
  batches(): readonly BatchBacklog[]
  /** Images per second of one replica without pruning; undefined while unknown. */
  throughput(): number | undefined
  /** Polling interval of the stream, ms; default 5000. */
  everyMs?: number
  /** Unix ms. */
  now(): number
}

/** State of a lane's group at a time (unix ms). */
interface Sample extends GroupState {
  at: number
}

/** Window of the arrival rate, ms. */
const rateMs = 30_000
/** Maximum age of a sample, ms. */
const forgetMs = 30_000

/**
 * Load of one model in the whole fleet, from the stream and the planners. Every process sees the same numbers, so what they derive
 * from them agrees.
 * @example new FleetWatch({ stream, model, batches, throughput, log, now: Date.now }).desired() // { interactive: 2.3, batch: 0 }
 */
export class FleetWatch {
  readonly #options: FleetWatchOptions
  readonly #samples: Record<Lane, Sample[]> = { interactive: [], batch: [] }
  readonly #watching: { close(): Promise<void> }

  constructor(options: FleetWatchOptions) {
    this.#options = options
    const { log, everyMs = 5_000, sleep } = options
    const failure = 'reading the load of the fleet failed, retrying'
    this.#watching = repeat(() => this.#sample(), { everyMs, failure, log, sleep })
  }

  get model(): string {
    return this.#options.model()
  }

  /** Processors that share the lane; undefined while unknown. */
  replicas(lane: Lane): number | undefined {
    return this.#last(lane)?.members
  }

  /** Unfinished records of the lane, in the whole fleet; undefined while unknown. */
  lag(lane: Lane): number | undefined {
    return this.#last(lane)?.lag
  }

  /** Replicas that the current load needs at full quality; undefined while unknown. */
  desired(): DesiredReplicas | undefined {
    const { throughput, now } = this.#options
    const imagesPerSecond = throughput()
    const waiting = this.lag('interactive')
    if (imagesPerSecond === undefined || waiting === undefined) return undefined
    const load = {
      arrivalRate: this.#arrivalRate(),
      waiting,
      batches: this.#batches().map(({ deadline, linesLeft }) => ({ deadline, images: linesLeft })),
    }
    return desiredReplicas(load, { throughput: imagesPerSecond }, now())
  }

  /** Share of each batch's backlog for one processor of the lane. */
  batchShare(): BatchBacklog[] {
    const replicas = Math.max(1, this.replicas('batch') ?? 1)
    return this.#batches().map((backlog) => ({
      ...backlog,
      linesLeft: Math.ceil(backlog.linesLeft / replicas),
    }))
  }

  /** Those of the model; planners of earlier versions do not say whose a batch is. */
  #batches(): BatchBacklog[] {
    const { model } = this
    return this.#options.batches().filter((backlog) => (backlog.model ?? model) === model)
  }

  close(): Promise<void> {
    return this.#watching.close()
  }

  async #sample(): Promise<void> {
    const { stream, now, ownTopics } = this.#options
    for (const lane of lanes) {
      const { topic, group } = jobTopic(lane, ownTopics ? this.model : undefined)
      const state = await stream.groupState(topic, group)
      const at = now()
      this.#samples[lane] = [
        ...this.#samples[lane].filter((sample) => at - sample.at <= rateMs),
        { ...state, at },
      ]
    }
  }

  #last(lane: Lane): Sample | undefined {
    const last = this.#samples[lane].at(-1)
    return last && this.#options.now() - last.at <= forgetMs ? last : undefined
  }

  /** Interactive records per second over the kept samples. */
  #arrivalRate(): number {
    const first = this.#samples.interactive[0]
    const last = this.#samples.interactive.at(-1)
    if (!first || !last || last.at === first.at) return 0
    return (1000 * (last.taken - first.taken)) / (last.at - first.at)
  }
}

/** Registers metrics of the whole fleet by model, the same in all processes; unknown values are left out. */
export function measureFleet(metrics: Metrics, watches: () => Iterable<FleetWatch>): void {
  const perLane = (name: string, help: string, read: (fleet: FleetWatch, lane: Lane) => number | undefined) =>
    metrics.gauge({
      name,
      help,
      labelNames: ['lane', 'model'],
      collect() {
        this.reset()
        for (const fleet of watches()) {
          for (const lane of lanes) {
            const value = read(fleet, lane)
            if (value !== undefined) this.set({ lane, model: fleet.model }, value)
          }
        }
      },
    })
  perLane(
    'desired_replicas',
    'Processors that the load of the whole fleet needs at full quality, as a fraction. Take the maximum over all processes.',
    (fleet, lane) => fleet.desired()?.[lane],
  )
  perLane('replicas', 'Processors that share the lane.', (fleet, lane) => fleet.replicas(lane))
  perLane('stream_lag', 'Records of the lane that are not finished.', (fleet, lane) => fleet.lag(lane))
}

/** Watches of the fleet's load, one a model. */
export interface FleetWatches {
  /** Watches a model, until it is closed or the process is. */
  add(model: Pick<FleetWatchOptions, 'model' | 'ownTopics' | 'throughput'>): FleetWatch
  /** Ends a watch. */
  remove(watch: FleetWatch): void
}

export interface WatchFleetOptions {
  backends: Backends
  log: Logger
  metrics: Metrics
  shutdown: Shutdown
}

/** Watches the load of the fleet until shutdown, and exports it as metrics. */
export function watchFleet({ backends, log, metrics, shutdown }: WatchFleetOptions): FleetWatches {
  const { stream, store } = backends
  const backlogs = createBacklogs({ store, log, now: Date.now })
  const watches = new Set<FleetWatch>()
  measureFleet(metrics, () => watches)
  shutdown.add(() => Promise.all([backlogs.close(), ...[...watches].map((watch) => watch.close())]))
  return {
    add(model) {
      const watch = new FleetWatch({
        ...{ stream, log, now: Date.now, batches: () => backlogs.batches() },
        ...model,
      })
      watches.add(watch)
      return watch
    },
    remove(watch) {
      watches.delete(watch)
      void watch.close()
    },
  }
}

export interface BatchBacklogOptions {
  levels: readonly Level[]
  /** Batch images in the queue, which their batches' backlogs include. */
  queued: number
}

/** Upcoming batch work, by deadline; `share` is this processor's. */
export function batchBacklog(
  share: readonly BatchBacklog[],
  { levels, queued }: BatchBacklogOptions,
): Backlog[] {
  let known = queued
  return share
    .toSorted((a, b) => a.deadline - b.deadline)
    .flatMap(({ deadline, linesLeft, maxPrune }) => {
      const images = Math.max(0, linesLeft - known)
      known = Math.max(0, known - linesLeft)
      return images > 0 ? [{ deadline, images, maxLevel: maxAllowedLevel(levels, maxPrune) }] : []
    })
}

export interface StreamBacklogOptions {
  levels: readonly Level[]
  /** Unfinished interactive records of the whole fleet. */
  lag: number
  replicas: number
  /** Records in flight on this processor, and their maximum. */
  inFlight: number
  limit: number
  /** Deadline of records still in the stream, unix ms. */
  deadline: number
}

/** Interactive images that this processor has yet to fetch: none while it has room, since it takes all there are. */
export function streamBacklog({
  levels,
  lag,
  replicas,
  inFlight,
  limit,
  deadline,
}: StreamBacklogOptions): Backlog[] {
  const images = Math.ceil(lag / Math.max(1, replicas)) - inFlight
  if (inFlight < limit || images <= 0) return []
  return [{ deadline, images, maxLevel: levels.length - 1 }]
}
