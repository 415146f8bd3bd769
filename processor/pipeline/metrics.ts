import type { Metrics } from '../../infra/telemetry/metrics.ts'
import type { LossReason } from '../decoding/decoder.ts'
import { type DecoderKind, decoderKinds } from '../decoding/decoder-pool.ts'
import { lanes } from '../scheduling/level.ts'
import type { BatchReport } from './executor.ts'
import type { Pipeline } from './pipeline.ts'

/** Metrics of runs and devices: pass `onBatch`, `onDecoded`, `onLost` and `onCrash` to the pipeline, and the pipeline to `watch`. */
export function measurePipeline(metrics: Metrics) {
  const counter = <T extends string = never>(name: string, help: string, ...labelNames: T[]) =>
    metrics.counter({ name, help, labelNames })
  const images = counter('images_total', 'Images captioned, by lane and prune level.', 'lane', 'level')
  const batches = counter(
    'batches_total',
    'Runs on devices, by batch size and prune level.',
    'device',
    'bucket',
    'level',
  )
  const inference = metrics.histogram({
    name: 'inference_seconds',
    help: 'Time of one run on a device.',
    labelNames: ['device'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  const busy = counter('device_busy_seconds_total', 'Time that the device was running batches.', 'device')
  const pruned = counter(
    'prune_ratio_sum',
    'Sum of the prune ratios of captioned images; divided by images_total, the mean.',
    'lane',
  )
  const quality = counter(
    'quality_spent_sum',
    'Expected captions that differ from unpruned ones, by calibration; divided by images_total, their share.',
    'lane',
  )
  const late = counter('late_images_total', 'Images captioned after their deadline.', 'lane')
  const crashes = counter('device_crashes_total', 'Device restarts after a crash.')
  const decoding = metrics.histogram({
    name: 'decode_seconds',
    help: 'Time of decoding one image, by kind of decoder: of a lane, or heavy for images that take long or much memory.',
    labelNames: ['decoder'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  const lost = counter(
    'decoders_lost_total',
    'Decoders that ended: their image took too much memory or time or crashed them, a more urgent one preempted it, or they did not start.',
    'decoder',
    'reason',
  )
  const rejected = counter(
    'shed_total',
    'Requests rejected: late would have missed its deadline, full had no room in the queue.',
    'reason',
  )
  const busyShares = new Map<string, BusyShare>()

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
    onDecoded: (decoder: DecoderKind, ms: number) => decoding.observe({ decoder }, ms / 1000),
    onLost: (decoder: DecoderKind, reason: LossReason) => lost.inc({ decoder, reason }),
    onRejected: (reason: 'full' | 'late') => rejected.inc({ reason }),
    onCrash: () => crashes.inc(),
    watch(pipeline: Pipeline): void {
      const { executor } = pipeline
      const perLane = (name: string, help: string, read: (lane: (typeof lanes)[number]) => number) =>
        metrics.gauge({
          name,
          help,
          labelNames: ['lane'],
          collect() {
            for (const lane of lanes) this.set({ lane }, read(lane))
          },
        })
      perLane('queue_images', 'Images waiting for a device.', (lane) => executor.waiting(lane))
      perLane(
        'queue_age_seconds',
        'Waiting time of the image that is served next.',
        (lane) => executor.age(lane) / 1000,
      )
      perLane('prune_level', 'Prune level that the load requires.', (lane) => executor.level(lane))
      perLane('arrival_rate', 'Images that arrive per second.', (lane) => executor.arrivalRate(lane))
      metrics.gauge({
        name: 'decoders',
        help: 'Decoders, by kind and state.',
        labelNames: ['decoder', 'state'],
        collect() {
          for (const decoder of decoderKinds)
            for (const state of ['busy', 'idle'] as const)
              this.set({ decoder, state }, pipeline.decoders.count(decoder, state))
        },
      })
      metrics.gauge({
        name: 'device_busy_share',
        help: 'Busy share of the device in the last ten seconds, 0 to 1.',
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
 * Recent busy share of a device, exponentially weighted: a run that ended `age` ms ago counts `exp(-age / timeConstantMs)`.
 */
export class BusyShare {
  readonly #timeConstantMs: number
  #share = 0
  #at = Number.NEGATIVE_INFINITY

  constructor({ timeConstantMs = 10_000 }: { timeConstantMs?: number } = {}) {
    this.#timeConstantMs = timeConstantMs
  }

  /** Observes a run that has ended, unix ms; runs come in the order of their ends and do not overlap. */
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
