import type { Metrics } from '../../infra/telemetry/metrics.ts'
import type { LossReason } from '../decoding/decoder.ts'
import { type DecoderKind, decoderKinds } from '../decoding/decoder-pool.ts'
import { type Lane, lanes } from '../scheduling/level.ts'
import type { BatchReport, StepReport } from './executor.ts'
import type { Pipeline } from './pipeline.ts'

/**
 * Metrics of runs and devices, of all models of a process: pass `onBatch` of a model, `onDecoded`, `onLost` and `onCrash` to its
 * pipeline, and the pipeline to `watch`.
 */
export function measurePipeline(metrics: Metrics) {
  const counter = <T extends string = never>(name: string, help: string, ...labelNames: T[]) =>
    metrics.counter({ name, help, labelNames })
  const images = counter(
    'images_total',
    'Images captioned, by lane and prune level.',
    'lane',
    'level',
    'model',
  )
  const joined = counter(
    'joined_images_total',
    'Images that joined a batch while it ran, of images_total.',
    'lane',
    'model',
  )
  const steps = counter('steps_total', 'Steps of captions that are made step by step.', 'device', 'model')
  const rowSteps = counter(
    'row_steps_total',
    'Captions in each of these steps; divided by steps_total, the mean batch size.',
    'device',
    'model',
  )
  const placeSteps = counter(
    'place_steps_total',
    'Captions that could have been in them; what row_steps_total is of it is the occupancy.',
    'device',
    'model',
  )
  const batches = counter(
    'batches_total',
    'Runs on devices, by batch size and prune level; images that join one count as a run of theirs.',
    'device',
    'bucket',
    'level',
  )
  const inference = metrics.histogram({
    name: 'inference_seconds',
    help: 'Time of one run on a device; of images that join one, from there to the last of their captions.',
    labelNames: ['device'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  const busy = counter('device_busy_seconds_total', 'Time that the device was running batches.', 'device')
  const pruned = counter(
    'prune_ratio_sum',
    'Sum of the prune ratios of captioned images; divided by images_total, the mean.',
    'lane',
    'model',
  )
  const quality = counter(
    'quality_spent_sum',
    'Expected captions that differ from unpruned ones, by calibration; divided by images_total, their share.',
    'lane',
    'model',
  )
  const late = counter('late_images_total', 'Images captioned after their deadline.', 'lane', 'model')
  const crashes = counter('device_crashes_total', 'Device restarts after a crash.')
  const decoding = metrics.histogram({
    name: 'decode_seconds',
    help: 'Time of decoding one image, by kind of decoder: of a lane, or heavy for images that take long or much memory.',
    labelNames: ['decoder'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })
  const decodingCpu = counter(
    'decode_cpu_seconds_total',
    'CPU time of decoding images, by kind of decoder.',
    'decoder',
  )
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
  const busyTime = new BusyTime()

  const pipelines = new Set<Pipeline>()
  const perLane = (name: string, help: string, read: (pipeline: Pipeline, lane: Lane) => number) =>
    metrics.gauge({
      name,
      help,
      labelNames: ['lane', 'model'],
      collect() {
        for (const pipeline of pipelines)
          for (const lane of lanes) this.set({ lane, model: pipeline.model }, read(pipeline, lane))
      },
    })
  const perModel = (name: string, help: string, read: (pipeline: Pipeline) => number) =>
    metrics.gauge({
      name,
      help,
      labelNames: ['model'],
      collect() {
        for (const pipeline of pipelines) this.set({ model: pipeline.model }, read(pipeline))
      },
    })
  perLane('queue_images', 'Images waiting for a device.', ({ executor }, lane) => executor.waiting(lane))
  perLane(
    'queue_age_seconds',
    'Waiting time of the image that is served next.',
    ({ executor }, lane) => executor.age(lane) / 1000,
  )
  perLane('prune_level', 'Prune level that the load requires.', ({ executor }, lane) => executor.level(lane))
  perLane('arrival_rate', 'Images that arrive per second.', ({ executor }, lane) =>
    executor.arrivalRate(lane),
  )
  metrics.gauge({
    name: 'decoders',
    help: 'Decoders, by kind and state.',
    labelNames: ['decoder', 'state'],
    collect() {
      for (const decoder of decoderKinds)
        for (const state of ['busy', 'idle'] as const) {
          const pools = new Set([...pipelines].map(({ decoders }) => decoders))
          const counts = [...pools].map((pool) => pool.count(decoder, state))
          this.set(
            { decoder, state },
            counts.reduce((sum, count) => sum + count, 0),
          )
        }
    },
  })
  metrics.gauge({
    name: 'device_busy_share',
    help: 'Busy share of the device in the last ten seconds, 0 to 1.',
    labelNames: ['device'],
    collect() {
      for (const device of [...pipelines].flatMap(({ devices }) => devices))
        this.set({ device }, busyShares.get(device)?.at(Date.now()) ?? 0)
    },
  })
  metrics.gauge({
    name: 'model_precision',
    help: '1 for what a model computes in, e.g. int8.',
    labelNames: ['model', 'precision'],
    collect() {
      for (const { model, precision } of pipelines) this.set({ model, precision }, 1)
    },
  })
  perModel(
    'replica_images_per_second',
    'Images per second that this processor serves unpruned while no other model runs, by its cost model.',
    ({ throughput }) => throughput,
  )
  perModel(
    'cost_model_relative_error',
    'Recent relative error of predicted run times; 0 is exact.',
    ({ costs }) => costs.relativeError,
  )

  return {
    onBatch(model: string, run: BatchReport): void {
      const { device, bucket, level, inferenceMs } = run
      batches.inc({ device, bucket, level })
      inference.observe({ device }, inferenceMs / 1000)
      busy.inc({ device }, busyTime.observe(run) / 1000)
      for (const lane of lanes) {
        const count = run.images[lane]
        if (count === 0) continue
        images.inc({ lane, level, model }, count)
        pruned.inc({ lane, model }, run.pruneRatio * count)
        quality.inc({ lane, model }, run.qualitySpent * count)
        late.inc({ lane, model }, run.late[lane])
        if (run.joined) joined.inc({ lane, model }, count)
      }
      const share = busyShares.get(device) ?? new BusyShare()
      busyShares.set(device, share)
      share.observe(run)
    },
    onSteps(model: string, run: StepReport): void {
      const { device } = run
      steps.inc({ device, model }, run.steps)
      rowSteps.inc({ device, model }, run.steps * run.rows)
      placeSteps.inc({ device, model }, run.steps * run.places)
    },
    onDecoded(decoder: DecoderKind, ms: number, cpuMs: number): void {
      decoding.observe({ decoder }, ms / 1000)
      decodingCpu.inc({ decoder }, cpuMs / 1000)
    },
    onLost: (decoder: DecoderKind, reason: LossReason) => lost.inc({ decoder, reason }),
    onRejected: (reason: 'full' | 'late') => rejected.inc({ reason }),
    onCrash: () => crashes.inc(),
    watch: (pipeline: Pipeline) => pipelines.add(pipeline),
  }
}

/** Time that devices were busy, where runs overlap too. */
export class BusyTime {
  /** End of what is counted, by device, unix ms. */
  readonly #until = new Map<string, number>()

  /** Runs of a device come in the order of their ends. @returns ms that were not counted before */
  observe({
    device,
    from,
    to,
    inferenceMs,
  }: Pick<BatchReport, 'device' | 'from' | 'to' | 'inferenceMs'>): number {
    const until = this.#until.get(device) ?? from
    this.#until.set(device, Math.max(until, to))
    return until > from ? Math.min(inferenceMs, Math.max(0, to - until)) : inferenceMs
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

  /** Observes a run that has ended, unix ms; runs come in the order of their ends. */
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
