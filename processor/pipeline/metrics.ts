import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { lanes } from '../scheduling/level.ts'
import type { BatchReport } from './executor.ts'
import type { Pipeline } from './pipeline.ts'

/** Metrics of the devices' runs; hand `onBatch` and `onCrash` to the pipeline and `watch` the pipeline itself. */
export function measurePipeline(metrics: Metrics) {
  const images = metrics.counter({
    name: 'images_total',
    help: 'Images captioned, by lane and prune level.',
    labelNames: ['lane', 'level'],
  })
  const batches = metrics.counter({
    name: 'batches_total',
    help: 'Runs on devices, by batch size and prune level.',
    labelNames: ['device', 'bucket', 'level'],
  })
  const inference = metrics.histogram({
    name: 'inference_seconds',
    help: 'Time of one run on a device.',
    labelNames: ['device'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  const busy = metrics.counter({
    name: 'device_busy_seconds_total',
    help: 'Time that the device ran batches.',
    labelNames: ['device'],
  })
  const pruned = metrics.counter({
    name: 'prune_ratio_sum',
    help: 'Sum of the prune ratios of captioned images: over images_total it is the mean.',
    labelNames: ['lane'],
  })
  const quality = metrics.counter({
    name: 'quality_spent_sum',
    help: 'Expected captions that differ from unpruned ones, by the calibrated level table; over images_total it is their share.',
    labelNames: ['lane'],
  })
  const late = metrics.counter({
    name: 'late_images_total',
    help: 'Images captioned after their deadline.',
    labelNames: ['lane'],
  })
  const busyShares = new Map<string, BusyShare>()
  const crashes = metrics.counter({ name: 'device_crashes_total', help: 'Device restarts after a crash.' })

  const rejected = metrics.counter({
    name: 'shed_total',
    help: 'Requests rejected: late would have missed its deadline, full had no room in the queue.',
    labelNames: ['reason'],
  })

  return {
    onBatch(run: BatchReport): void {
      const { device, bucket, level, inferenceMs } = run
      batches.inc({ device, bucket, level })
      inference.observe({ device }, inferenceMs / 1000)
      busy.inc({ device }, inferenceMs / 1000)
      for (const lane of lanes) {
        const count = run.images[lane]
        if (count === 0) continue
        images.inc({ lane, level }, count)
        pruned.inc({ lane }, run.pruneRatio * count)
        quality.inc({ lane }, run.qualitySpent * count)
        late.inc({ lane }, run.late[lane])
      }
      const share = busyShares.get(device) ?? new BusyShare()
      busyShares.set(device, share)
      share.observe(run)
    },
    onShed(reason: 'full' | 'late'): void {
      rejected.inc({ reason })
    },
    onCrash(): void {
      crashes.inc()
    },
    watch(pipeline: Pipeline): void {
      const perLane = (name: string, help: string, read: (lane: (typeof lanes)[number]) => number) =>
        metrics.gauge({
          name,
          help,
          labelNames: ['lane'],
          collect() {
            for (const lane of lanes) this.set({ lane }, read(lane))
          },
        })
      perLane('queue_images', 'Images waiting for a device.', (lane) => pipeline.runner.waiting(lane))
      perLane(
        'queue_age_seconds',
        'Waiting time of the image that is served next.',
        (lane) => pipeline.runner.age(lane) / 1000,
      )
      perLane('prune_level', 'Prune level that the load asks for.', (lane) => pipeline.runner.level(lane))
      perLane('arrival_rate', 'Images that arrive per second.', (lane) => pipeline.runner.arrivalRate(lane))
      metrics.gauge({
        name: 'device_busy_share',
        help: 'Share of the last ten seconds in which the device ran batches, 0 to 1.',
        labelNames: ['device'],
        collect() {
          for (const device of pipeline.devices)
            this.set({ device }, busyShares.get(device)?.at(Date.now()) ?? 0)
        },
      })
      metrics.gauge({
        name: 'replica_images_per_second',
        help: 'Images per second that this processor serves unpruned, by its cost model.',
        collect() {
          this.set(pipeline.throughput)
        },
      })
      metrics.gauge({
        name: 'cost_model_relative_error',
        help: 'Recent relative error of predicted run times; 0 is exact.',
        collect() {
          this.set(pipeline.costs.relativeError)
        },
      })
    },
  }
}

/**
 * Share of its time that a device has been busy of late, exponentially weighted: what ended `age` ms ago counts
 * `exp(-age / timeConstantMs)`.
 *
 * @example
 * const busy = new BusyShare()
 * busy.observe({ from: startedAt, to: now })
 * busy.at(now)
 */
export class BusyShare {
  readonly #timeConstantMs: number
  #share = 0
  #at = Number.NEGATIVE_INFINITY

  constructor({ timeConstantMs = 10_000 }: { timeConstantMs?: number } = {}) {
    this.#timeConstantMs = timeConstantMs
  }

  /** A run that has ended; runs come in the order of their ends and do not overlap. Unix ms. */
  observe({ from, to }: { from: number; to: number }): void {
    const idleUntil = this.at(Math.max(from, this.#at))
    const kept = Math.exp(-Math.max(0, to - Math.max(from, this.#at)) / this.#timeConstantMs)
    this.#share = idleUntil * kept + (1 - kept)
    this.#at = Math.max(this.#at, to)
  }

  /** From 0 to 1; a run that goes on now counts as idle until it ends. */
  at(now: number): number {
    return this.#share * Math.exp(-Math.max(0, now - this.#at) / this.#timeConstantMs)
  }
}
