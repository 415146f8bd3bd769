import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { imageLimitsOf } from '../../edge/contract/image.ts'
import { groups, topics } from '../../edge/contract/topics.ts'
import type { Backends } from '../../infra/backends.ts'
import type { Config } from '../../infra/config.ts'
import { FairBudget } from '../../infra/fair-budget.ts'
import type { Images } from '../../infra/fetch/configured.ts'
import { workingMemory } from '../../infra/memory.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import type { ConsumedRecord, Consumer } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { inSpan, SpanKind } from '../../infra/telemetry/tracing.ts'
import { withCrashMarks } from '../delivery/crash-marks.ts'
import { type DeadLetterOptions, type RecordHandler, withDeadLetters } from '../delivery/dead-letters.ts'
import { Isolation } from '../delivery/isolation.ts'
import { ResultWrites } from '../delivery/result-writes.ts'
import { batchBacklog, type FleetWatch, streamBacklog, watchFleet } from '../fleet/load.ts'
import { batchJobs, shardSharing } from '../jobs/batch.ts'
import { type InteractiveJobs, type InteractiveJobsOptions, interactiveJobs } from '../jobs/interactive.ts'
import type { CaptionModel } from '../models/model.ts'
import { pinnedLevel } from '../pipeline/captioner.ts'
import { measurePipeline } from '../pipeline/metrics.ts'
import { openPipeline } from '../pipeline/open.ts'
import type { Pipeline, PipelineOptions } from '../pipeline/pipeline.ts'
import type { Backlog, Lane } from '../scheduling/level.ts'

export interface ProcessorOptions {
  config: Config
  log: Logger
  backends: Backends
  metrics: Metrics
  /** Called for every dead letter. */
  onDeadLetter: DeadLetterOptions['onDeadLetter']
  /** Delivers a finished caption to its job's `reply-to`. */
  deliver: InteractiveJobsOptions['deliver']
  lineTo: InteractiveJobsOptions['lineTo']
  /** Closed by whoever opened it. */
  images: Pick<Images, 'imageAt'>
  /** What the process has in hand beside; default: only this processor's records. */
  isolation?: Isolation
  /** The only edge is in this process: it decides by `rejection`, and no job is rejected later. */
  edgeDecides?: boolean
}

export interface RunningProcessor {
  pipeline: Pipeline
  model: CaptionModel
  /** Caption and path of the bundled picture. */
  warmUp: { caption: string; image: string }
  /** Interactive records being handled now. */
  inFlight(): number
  /** Those of one tenant. */
  inFlightOf(tenant: string): number
  /** Further interactive records wait in the stream: there are too many, or too many bytes. */
  full(): boolean
  rejection: InteractiveJobs['rejection']
  withdraw: InteractiveJobs['withdraw']
}

/** Concurrent shards: while the last lines of one are slow, the others keep the devices busy. */
const shardsInFlight = 32
/** Concurrent shards of one tenant; the rest are for others, however slow its images are. */
const tenantShards = 8
/** Shards known beside those: so far ahead, others find theirs. */
const waitingShards = 512

/** Share of the working memory that images of interactive records may take, and again those that are sent by key. */
const imageShare = 1 / 6
const imageBytes = ({ memoryMb }: Config) => Math.floor(imageShare * workingMemory(memoryMb))

interface Consuming extends ProcessorOptions {
  pipeline: Pipeline
  isolation: Isolation
  results: ResultWrites
  shutdown: Shutdown
}

/**
 * Opens the model and consumes jobs of its lanes. Resolves when the model has captioned a picture.
 * @throws ModelFolderError, DeviceUnavailableError, StreamUnavailableError, TurbineError `level_unknown`
 */
export async function startProcessor(
  options: ProcessorOptions,
  shutdown: Shutdown,
): Promise<RunningProcessor> {
  const { config, log, metrics, backends } = options
  let fleet: FleetWatch | undefined
  let interactive: Consumer | undefined
  const upstream = (lane: Lane, now: number): readonly Backlog[] => {
    if (!fleet) return []
    const { levels } = pipeline.costs
    if (lane === 'batch')
      return batchBacklog(fleet.batchShare(), { levels, queued: pipeline.executor.waiting('batch') })
    const inStream = streamBacklog({
      levels,
      lag: fleet.lag('interactive') ?? 0,
      replicas: fleet.replicas('interactive') ?? 1,
      inFlight: interactive?.inFlight ?? 0,
      limit: config.queueLimit,
      deadline: now + config.sloMs,
    })
    const maxLevel = levels.length - 1
    return [...inStream, ...jobs.inTransit().map((deadline) => ({ deadline, images: 1, maxLevel }))]
  }
  const { pipeline, model, onRejected } = await startPipeline({ ...options, upstream }, shutdown)
  const image = bundledPictures[0]!
  const { caption } = await pipeline.caption({ image: await readFile(image), lane: 'interactive' })

  fleet = watchFleet({ backends, log, metrics, shutdown, throughput: () => pipeline.throughput })
  const results = new ResultWrites({ log })
  const consuming = {
    ...options,
    pipeline,
    isolation: options.isolation ?? new Isolation(),
    results,
    shutdown,
  }
  const { edgeDecides, deliver, lineTo } = options
  const jobs = interactiveJobs({
    ...{ captioner: pipeline, store: backends.store, results },
    ...{ onRejected, decided: edgeDecides, lineTo, now: Date.now },
    deliver: (...reply) => inSpan('reply', { kind: SpanKind.CLIENT }, () => deliver(...reply)),
    admission: (image) => pipeline.executor.admission(image),
    memory: new FairBudget({ size: imageBytes(config), leavesRoom: true }),
  })
  if (config.lanes !== 'batch') {
    interactive = await consumeInteractive(jobs, consuming)
    shutdown.add((drainMs) => interactive!.close(drainMs))
  }
  const batch = config.lanes === 'interactive' ? undefined : await consumeBatch(consuming)
  // Concurrently: a shard can take all of the drain time, and callers wait for the interactive jobs.
  shutdown.add((drainMs) => Promise.all([interactive?.close(drainMs), batch?.close(drainMs)]))
  const inFlight = () => interactive?.inFlight ?? 0
  return {
    ...{ pipeline, model, warmUp: { caption, image }, rejection: jobs.rejection, withdraw: jobs.withdraw },
    inFlight,
    inFlightOf: jobs.runningOf,
    full: () => interactive?.full ?? false,
  }
}

function consumeInteractive(jobs: InteractiveJobs, options: Consuming): Promise<Consumer> {
  const { config, backends } = options
  return backends.stream.consume({
    topic: topics.interactive,
    group: groups.interactive,
    maxInFlight: config.queueLimit,
    maxInFlightBytes: imageBytes(config),
    ...handling(jobs, options),
  })
}

function consumeBatch(options: Consuming): Promise<Consumer> {
  const { config, log, backends, metrics, pipeline, results, images } = options
  const { stream, store, buckets, ownBucket } = backends
  const jobs = batchJobs({
    captioner: pipeline,
    stream,
    store,
    buckets,
    ownBucket,
    images: images.imageAt,
    fetches: config.hostConcurrency,
    imageLimits: imageLimitsOf(config),
    metrics,
    results,
    log,
    now: Date.now,
  })
  return stream.consume({
    topic: topics.batch,
    group: groups.batch,
    maxInFlight: shardsInFlight,
    sharing: { perOwner: tenantShards, waiting: waitingShards, ...shardSharing },
    ...handling(jobs, options),
  })
}

/** Wraps a handler with dead letters, crash marks and tracing. */
function handling(
  handler: RecordHandler,
  {
    log,
    backends: { stream, store },
    onDeadLetter,
    isolation,
  }: Pick<Consuming, 'log' | 'backends' | 'onDeadLetter' | 'isolation'>,
) {
  const marked = withCrashMarks(handler, { store, isolation, now: Date.now })
  const handle = withDeadLetters(marked, { stream, onDeadLetter })
  return {
    handle: (record: ConsumedRecord, signal: AbortSignal) =>
      inSpan(
        `process ${record.topic}`,
        { kind: SpanKind.CONSUMER, parent: record.headers.traceparent ?? '' },
        () => handle(record, signal),
      ),
    onError: seldom((err) => log.warn({ err }, 'record handler failed, retrying')),
  }
}

/** Time in which the same error is told once, however many records meet it, ms. */
const sameErrorMs = 10_000

function seldom(tell: (error: unknown) => void): (error: unknown) => void {
  let last = { message: '', at: Number.NEGATIVE_INFINITY }
  return (error) => {
    const message = String(error)
    if (message === last.message && Date.now() - last.at < sameErrorMs) return
    last = { message, at: Date.now() }
    tell(error)
  }
}

async function startPipeline(
  { config, log, metrics, upstream }: ProcessorOptions & Pick<PipelineOptions, 'upstream'>,
  shutdown: Shutdown,
) {
  const measured = measurePipeline(metrics)
  const opened = await openPipeline(config, {
    interactiveTargetMs: config.sloMs,
    level: pinnedLevel(config.pruning),
    upstream,
    costFolder: join(config.dataDir, 'costs'),
    onBatch: measured.onBatch,
    onDecoded: measured.onDecoded,
    onLost: (kind, reason) => {
      measured.onLost(kind, reason)
      if (reason !== 'preempted') log.warn({ decoder: kind, reason }, 'decoder lost, another is started')
    },
    onCacheError: (err) => log.warn({ err }, 'measured run times not stored; the next start measures again'),
    onCrash: (err) => {
      measured.onCrash()
      log.error({ err }, 'device crashed, restarting')
    },
  })
  const { pipeline, model, devices } = opened
  shutdown.add(() => pipeline.close())
  measured.watch(pipeline)
  const decoders = pipeline.decoders.budget
  log.info({ model: model.id, levels: model.levels.length, device: devices, decoders }, 'model is ready')
  const loneMs = Math.round(pipeline.costs.predict(pipeline.costs.buckets[0]!, 0))
  if (loneMs > config.sloMs)
    log.warn({ loneMs, sloMs: config.sloMs }, 'one image takes longer than TURBINE_SLO_MS; increase it')
  return { ...opened, onRejected: measured.onRejected }
}
