import { readFile } from 'node:fs/promises'
import type { Backends } from '../../infra/backends.ts'
import type { Config } from '../../infra/config.ts'
import { FairBudget } from '../../infra/fair-budget.ts'
import type { Images } from '../../infra/fetch/configured.ts'
import { imageSourceOf } from '../../infra/fetch/image-source.ts'
import { webSettings } from '../../infra/fetch/web-settings.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { inSpan, SpanKind } from '../../infra/telemetry/tracing.ts'
import type { DeadLetterOptions } from '../delivery/dead-letters.ts'
import { Isolation } from '../delivery/isolation.ts'
import { ResultWrites } from '../delivery/result-writes.ts'
import { batchBacklog, type FleetWatch, streamBacklog, watchFleet } from '../fleet/load.ts'
import { type ModelTopics, modelTopics } from '../fleet/model-topics.ts'
import type { RouteOptions } from '../fleet/route.ts'
import { measureBatches } from '../jobs/batch.ts'
import { type InteractiveJobs, type InteractiveJobsOptions, interactiveJobs } from '../jobs/interactive.ts'
import type { CaptionModel } from '../models/model.ts'
import type { Loading } from '../pipeline/loading.ts'
import type { OpenPipeline } from '../pipeline/open.ts'
import type { Pipeline } from '../pipeline/pipeline.ts'
import type { Backlog, Lane } from '../scheduling/level.ts'
import {
  type ConsumeJobsOptions,
  consumeBatch,
  consumeInteractive,
  imageBytes,
  type LaneConsumers,
} from './lanes.ts'
import { openModels } from './open-models.ts'

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
  images: Pick<Images, 'hosts'>
  /** Of Turbine. */
  version: string
  /** Whether a model of the rest of the fleet has topics of its own; default: none has. */
  ownTopics?: RouteOptions['ownTopics']
  /** Partitions of topics that are made. */
  partitions: number
  /** What the process has in hand beside; default: only this processor's records. */
  isolation?: Isolation
  /** The only edge is in this process: it decides by `rejection`, and no job is rejected later. */
  edgeDecides?: boolean
}

/** A model that runs. */
export interface RunningModel {
  pipeline: Pipeline
  model: CaptionModel
  topics: ModelTopics
  /** Interactive records being handled now. */
  inFlight(): number
  /** Those of one tenant. */
  inFlightOf(tenant: string): number
  /** Further interactive records wait in the stream: there are too many, or too many bytes. */
  full(): boolean
  rejection: InteractiveJobs['rejection']
  withdraw: InteractiveJobs['withdraw']
}

export interface RunningProcessor {
  /** The default one first. */
  models: RunningModel[]
  /** Caption of the default model and path of the bundled picture. */
  warmUp: { caption: string; image: string }
  /** Whether a model of this processor has topics of its own. */
  ownTopics(model: string): boolean
  /** The 429 of a request, as its model's jobs decide. */
  rejection: InteractiveJobs['rejection']
  withdraw: InteractiveJobs['withdraw']
}

/**
 * Opens the models and consumes jobs of its lanes. Resolves when each model has captioned a picture.
 * @throws ConfigError, ModelFolderError, DeviceUnavailableError, StreamUnavailableError, TurbineError `level_unknown`
 */
export async function startProcessor(
  options: ProcessorOptions,
  shutdown: Shutdown,
): Promise<RunningProcessor> {
  const { config, version, backends, metrics, partitions } = options
  const started = new Map<string, StartedModel>()
  const upstream = (model: string, lane: Lane, now: number) => started.get(model)?.upstream(lane, now) ?? []
  const { opened, loading, onRejected } = await openModels({ ...options, upstream }, shutdown)
  const { reader } = loading.loaders
  const imageAt = imageSourceOf(reader, { ...webSettings(config, version), hosts: options.images.hosts })
  const image = bundledPictures[0]!
  const captions: string[] = []
  for (const { pipeline } of opened) {
    const { caption } = await pipeline.caption({ image: await readFile(image), lane: 'interactive' })
    captions.push(caption)
  }
  const ids = opened.map(({ model }) => model.id)
  const embedded = config.kafkaBrokers === undefined
  const topics = await modelTopics(ids, { ...backends, partitions, embedded })
  const ownTopics = (id: string) => topics.some(({ model, own }) => own && model === id)
  const watches = watchFleet({ ...options, shutdown })
  const shared = {
    ...options,
    ...{ shutdown, onRejected, loading, images: { imageAt } },
    metrics: measureBatches(metrics),
    isolation: options.isolation ?? new Isolation(),
    results: new ResultWrites(options),
    memory: new FairBudget({ size: imageBytes(config), leavesRoom: true }),
    ownTopics: async (id: string) => ownTopics(id) || ((await options.ownTopics?.(id)) ?? false),
  }
  for (const [index, each] of opened.entries()) {
    const place = topics[index]!
    const fleet = watches.add({
      model: () => place.model,
      ownTopics: place.own,
      throughput: () => each.pipeline.throughput,
    })
    started.set(place.model, await startModel({ ...shared, opened: each, topics: place, fleet }))
  }
  const models = [...started.values()]
  return {
    models,
    warmUp: { caption: captions[0]!, image },
    ownTopics,
    rejection: (job) => started.get(job.model)?.rejection(job),
    withdraw: (id) => {
      for (const model of models) model.withdraw(id)
    },
  }
}

interface StartedModel extends RunningModel {
  /** Images that will arrive here, and are in no queue yet. */
  upstream(lane: Lane, now: number): readonly Backlog[]
}

interface StartModelOptions
  extends ConsumeJobsOptions,
    Pick<ProcessorOptions, 'deliver' | 'lineTo' | 'edgeDecides'> {
  opened: OpenPipeline
  fleet: FleetWatch
  memory: FairBudget
  loading: Loading
  onRejected: InteractiveJobsOptions['onRejected']
  shutdown: Shutdown
}

async function startModel(options: StartModelOptions): Promise<StartedModel> {
  const { config, backends, opened, topics, fleet, memory, loading, results, deliver, shutdown } = options
  const { pipeline, model } = opened
  const jobs = interactiveJobs({
    ...{ captioner: pipeline, store: backends.store, results, memory, lineTo: options.lineTo },
    load: (key, options) => loading.loaders.stored(key, options),
    ...{ onRejected: options.onRejected, decided: options.edgeDecides, now: Date.now },
    deliver: (...reply) => inSpan('reply', { kind: SpanKind.CLIENT }, () => deliver(...reply)),
    admission: (image) => pipeline.executor.admission(image),
  })
  let interactive: LaneConsumers | undefined
  if (config.lanes !== 'batch') {
    interactive = await consumeInteractive(jobs, options)
    shutdown.add((drainMs) => interactive!.close(drainMs))
  }
  const batch = config.lanes === 'interactive' ? undefined : await consumeBatch(pipeline, options)
  // Concurrently: a shard can take all of the drain time, and callers wait for the interactive jobs.
  shutdown.add((drainMs) => Promise.all([interactive?.close(drainMs), batch?.close(drainMs)]))
  const inFlight = () => interactive?.inFlight ?? 0
  return {
    ...{ pipeline, model, topics, inFlight, rejection: jobs.rejection, withdraw: jobs.withdraw },
    inFlightOf: jobs.runningOf,
    full: () => interactive?.full ?? false,
    upstream(lane, now) {
      const { levels } = pipeline.costs
      if (lane === 'batch')
        return batchBacklog(fleet.batchShare(), { levels, queued: pipeline.executor.waiting('batch') })
      const inStream = streamBacklog({
        levels,
        lag: fleet.lag('interactive') ?? 0,
        replicas: fleet.replicas('interactive') ?? 1,
        inFlight: inFlight(),
        limit: config.queueLimit,
        deadline: now + config.sloMs,
      })
      const maxLevel = levels.length - 1
      return [...inStream, ...jobs.inTransit().map((deadline) => ({ deadline, images: 1, maxLevel }))]
    },
  }
}
