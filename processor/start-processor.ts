import { readFile } from 'node:fs/promises'
import type { FinishedCaption } from '../edge/contract/caption.ts'
import { maxBodyBytes } from '../edge/contract/caption.ts'
import { groups, topics } from '../edge/contract/topics.ts'
import type { Backends } from '../infra/backends.ts'
import type { Config } from '../infra/config.ts'
import { createImageFetcher } from '../infra/fetch-image.ts'
import type { Shutdown } from '../infra/shutdown.ts'
import { bundledPictures } from '../infra/starter-model/bundled.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import type { Metrics } from '../infra/telemetry/metrics.ts'
import { batchJobs } from './batch-jobs.ts'
import { createImageSource } from './batches/image-source.ts'
import { withCrashMarks } from './crash-marks.ts'
import { type RecordHandler, withDeadLetters } from './dead-letters.ts'
import { interactiveJobs } from './interactive-jobs.ts'
import type { CaptionModel } from './models/model.ts'
import { openPipeline } from './open-captioner.ts'
import type { Pipeline } from './pipeline.ts'
import { measurePipeline } from './pipeline-metrics.ts'

export interface ProcessorOptions {
  config: Config
  log: Logger
  backends: Backends
  metrics: Metrics
  /** Announces a finished caption at the `reply-to` address of its job. */
  deliver(replyTo: string, caption: FinishedCaption): void
}

export interface RunningProcessor {
  pipeline: Pipeline
  model: CaptionModel
  /** What the bundled picture was captioned as, and its path. */
  warmUp: { caption: string; image: string }
  /** Interactive records being handled now. */
  inFlight(): number
}

/** Shards worked on at a time: while the last lines of one are slow, the others keep the devices busy. */
const shardsInFlight = 4

/**
 * Opens the model and takes jobs of both lanes from the stream. Resolves when the model has captioned a picture.
 * @throws ModelFolderError, DeviceUnavailableError, StreamUnavailableError
 */
export async function startProcessor(
  options: ProcessorOptions,
  shutdown: Shutdown,
): Promise<RunningProcessor> {
  const { config, log, backends, metrics } = options
  const { pipeline, model } = await startPipeline(options, shutdown)
  const image = bundledPictures[0]!
  const { caption } = await pipeline.caption({ image: await readFile(image), lane: 'interactive' })

  const { stream, store, buckets } = backends
  const guarded = (handler: RecordHandler) =>
    withDeadLetters(withCrashMarks(handler, { store, now: Date.now }), {
      stream,
      onDeadLetter: (err) => log.error({ err }, 'a record went to the dead letters'),
    })
  const onError = (err: unknown) => log.warn({ err }, 'a record could not be handled now; it comes again')
  const interactive = await stream.consume({
    topic: topics.interactive,
    group: groups.interactive,
    maxInFlight: config.queueLimit,
    handle: guarded(interactiveJobs({ captioner: pipeline, store, deliver: options.deliver, now: Date.now })),
    onError,
  })
  shutdown.add((drainMs) => interactive.close(drainMs))

  const images = createImageFetcher({
    maxBytes: maxBodyBytes,
    timeoutMs: config.imageTimeoutMs,
    allowPrivate: config.allowPrivateUrls,
  })
  shutdown.add(() => images.close())
  const batch = await stream.consume({
    topic: topics.batch,
    group: groups.batch,
    maxInFlight: shardsInFlight,
    handle: guarded(
      batchJobs({
        captioner: pipeline,
        stream,
        store,
        buckets,
        images: createImageSource({ images, buckets }),
        metrics,
        log,
        now: Date.now,
      }),
    ),
    onError,
  })
  // Together: a shard can take all of the time, and callers wait for the interactive ones.
  shutdown.add((drainMs) => Promise.all([interactive.close(drainMs), batch.close(drainMs)]))
  return { pipeline, model, warmUp: { caption, image }, inFlight: () => interactive.inFlight }
}

async function startPipeline({ config, log, metrics }: ProcessorOptions, shutdown: Shutdown) {
  const measured = measurePipeline(metrics)
  const opened = await openPipeline(config, {
    interactiveTargetMs: config.sloMs,
    onBatch: measured.onBatch,
    onCrash: (err) => {
      measured.onCrash()
      log.error({ err }, 'a device crashed and is restarted')
    },
  })
  const { pipeline, model, devices } = opened
  shutdown.add(() => pipeline.close())
  measured.watch(pipeline)
  log.info({ model: model.id, levels: model.levels.length, device: devices }, 'model is ready')
  return opened
}
