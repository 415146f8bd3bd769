import type { Metrics } from '../infra/telemetry/metrics.ts'
import type { BatchReport } from './batch-runner.ts'
import type { Pipeline } from './pipeline.ts'

const lanes = ['interactive', 'batch'] as const

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
    help: 'Time in which the device ran batches.',
    labelNames: ['device'],
  })
  const pruned = metrics.counter({
    name: 'prune_ratio_sum',
    help: 'Sum of the prune ratios of captioned images: over images_total it is the mean.',
    labelNames: ['lane'],
  })
  const crashes = metrics.counter({ name: 'device_crashes_total', help: 'Devices that had to be restarted.' })

  return {
    onBatch({ device, lane, images: count, bucket, level, pruneRatio, inferenceMs }: BatchReport): void {
      images.inc({ lane, level }, count)
      batches.inc({ device, bucket, level })
      inference.observe({ device }, inferenceMs / 1000)
      busy.inc({ device }, inferenceMs / 1000)
      pruned.inc({ lane }, pruneRatio * count)
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
      perLane('queue_images', 'Images that wait for a device.', (lane) => pipeline.runner.waiting(lane))
      perLane('prune_level', 'Prune level that the load asked for last.', (lane) =>
        pipeline.runner.level(lane),
      )
      perLane('arrival_rate', 'Images per second that come in.', (lane) => pipeline.runner.arrivalRate(lane))
      metrics.gauge({
        name: 'cost_model_relative_error',
        help: 'How far off the predictions of run times have been of late, 0 is exact.',
        collect() {
          this.set(pipeline.costs.relativeError)
        },
      })
    },
  }
}
