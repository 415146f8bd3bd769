import { maxBodyBytes } from '../../edge/contract/caption.ts'
import { retryLater, type TurbineError } from '../../edge/contract/errors.ts'
import { keys } from '../../edge/contract/keys.ts'
import {
  announceModelMs,
  type ModelSummary,
  modelState,
  type ServedModel,
} from '../../edge/contract/model.ts'
import { groups, topicLayout, topics } from '../../edge/contract/topics.ts'
import { assertAliases } from '../../edge/fleet/reading.ts'
import { createServedModels, readServedModels } from '../../edge/fleet/served-models.ts'
import { hasPlace } from '../../edge/guard/admission.ts'
import { createEdgeMetrics } from '../../edge/metrics.ts'
import { operationsApp } from '../../edge/operations.ts'
import { serveNode } from '../../edge/server.ts'
import { type NodeEdgeOptions, startEdge } from '../../edge/start-edge.ts'
import { type Backends, openBackends } from '../../infra/backends.ts'
import { type Config, ConfigError } from '../../infra/config.ts'
import { type Images, openConfiguredImages } from '../../infra/fetch/configured.ts'
import { createReadiness, storeProbe } from '../../infra/readiness.ts'
import { Shutdown } from '../../infra/shutdown.ts'
import { exportSpans } from '../../infra/telemetry/export-spans.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../infra/telemetry/metrics.ts'
import { repeat } from '../../infra/timing.ts'
import { type PlannerOptions, startPlanner } from '../batches/planner/planner.ts'
import { type DeadLetterOptions, watchDeadLetters } from '../delivery/dead-letters.ts'
import { Isolation } from '../delivery/isolation.ts'
import { moveLeftOver } from '../fleet/left-over.ts'
import { type FleetWatch, watchFleet } from '../fleet/load.ts'
import { announceModel } from '../fleet/models.ts'
import { unitOf } from '../models/pictures.ts'
import { startSweeper } from '../sweeper/sweeper.ts'
import { type RunningModel, type RunningProcessor, startProcessor } from './processor.ts'
import { openReplies, type Replies } from './replies.ts'

/** All of Turbine in one process, or one role of a fleet. */
export type Role = 'serve' | 'edge' | 'processor' | 'planner'

/** Running service that is ready. */
export interface RunningService {
  url: string
  /** Caption and path of the bundled picture; absent in a role without a model. */
  warmUp?: { caption: string; image: string }
  /** Finishes accepted work, or leaves it for the next start. */
  close(): Promise<void>
}

export interface ServiceOptions {
  config: Config
  log: Logger
  version: string
}

type Started = Omit<RunningService, 'close'>

interface Process extends ServiceOptions {
  backends: Backends
  metrics: Metrics
  images: Images
  shutdown: Shutdown
  /** Partitions of topics that are made. */
  partitions: number
  /** Called for every dead letter. */
  onDeadLetter: DeadLetterOptions['onDeadLetter']
}

/** Partitions of an embedded stream, whose consumers are in one process. */
const embeddedPartitions = 4

/** The HTTP edge, a planner and a processor with its devices in one process. */
async function startAll(process: Process): Promise<Started> {
  const { config, log, backends } = process
  const replies = openReplies(process.config, process)
  // With Kafka, other processors may consume this edge's jobs, and this one those of other edges.
  const edgeDecides = config.kafkaBrokers === undefined
  const { deliver, lineTo } = replies
  const isolation = new Isolation()
  const fleet = edgeDecides ? undefined : createServedModels({ ...backends, log, now: Date.now })
  const processor = await startProcessor(
    { ...process, deliver, lineTo, edgeDecides, isolation, ownTopics: fleet?.ownTopics },
    process.shutdown,
  )
  if (fleet) await announceModels(processor, process)
  const models = async () => {
    const own = processor.models.map(summary)
    const announced = (await fleet?.models().catch(() => [])) ?? []
    return [...own, ...announced.filter((model) => own.every(({ id }) => id !== model.id))]
  }
  await assertAliases(config, models)
  const ownTopics = async (model: string) =>
    processor.ownTopics(model) || ((await fleet?.ownTopics(model)) ?? false)
  await startPlanning(process, { isolation, holdMs: longestHoldMs, ownTopics })
  const url = await openEdge(process, replies, {
    models,
    ownTopics,
    roomIn: (held, tenant) => roomIn(processor, held, tenant, config),
    rejection: edgeDecides ? (job) => rejection(processor, job, config) : undefined,
    withdraw: processor.withdraw,
  })
  log.debug({ url }, 'listening')
  return { url, warmUp: processor.warmUp }
}

/** The HTTP edge alone, on Node, for a fleet. */
async function startEdgeAlone(process: Process): Promise<Started> {
  const { backends, config, log } = process
  const { models, ownTopics } = createServedModels({ ...backends, log, now: Date.now })
  await assertAliases(config, models)
  const { queueLimit: limit } = config
  const roomIn: NodeEdgeOptions['roomIn'] = (taken, { held: own }) =>
    hasPlace({ limit, taken, own }) ? 0 : 1
  return { url: await openEdge(process, openReplies(config, process), { models, ownTopics, roomIn }) }
}

async function openEdge(
  process: Process,
  { mailbox, listenAt }: Replies,
  options: Pick<NodeEdgeOptions, 'models' | 'ownTopics' | 'roomIn' | 'rejection' | 'withdraw'>,
): Promise<string> {
  const readiness = readinessOf(process)
  const { url, operations } = await startEdge(
    { ...process, ...options, mailbox, readiness },
    process.shutdown,
  )
  listenAt(operations)
  if (operations !== url)
    process.log.info({ url: operations }, 'metrics, readiness and replies are served apart')
  return url
}

/** A processor with its devices, for a fleet. */
async function startProcessorAlone(process: Process): Promise<Started> {
  const { backends, config, log, shutdown } = process
  const { deliver, lineTo } = openReplies(config, process)
  const { ownTopics } = createServedModels({ ...backends, log, now: Date.now })
  const processor = await startProcessor({ ...process, deliver, lineTo, ownTopics }, shutdown)
  await announceModels(processor, process)
  return { url: await serveOperations(process), warmUp: processor.warmUp }
}

/** Announces the models to the rest of the fleet until shutdown. */
async function announceModels({ models }: RunningProcessor, process: Process): Promise<void> {
  const { backends, log, shutdown } = process
  const { store } = backends
  await warnOfOthers(models, process)
  for (const each of models) {
    const announcement = announceModel({
      ...{ store, log, now: Date.now, ownTopics: each.topics.own },
      model: () => summary(each),
      throughput: () => each.pipeline.throughput,
    })
    shutdown.add(() => announcement.close())
  }
}

/** Of two models with the same topics, each processor refuses what it takes of the other's jobs. */
async function warnOfOthers(models: readonly RunningModel[], { backends, log }: Process): Promise<void> {
  const sharing = models.find(({ topics }) => topics.shared)
  if (!sharing) return
  const { id } = sharing.model
  const others = (await readServedModels(backends.store, log).catch(() => [])).filter(
    ({ model, ownTopics, seenAt }) =>
      model.id !== id && !ownTopics && modelState(seenAt, Date.now()) === 'ready',
  )
  for (const { model } of others)
    log.warn(
      { model: id, other: model.id },
      `both models take jobs from the same topics, which is right only while one replaces the other; else: npx turbine topics create --model '${id}'`,
    )
}

/** A planner, for a fleet: splits batches into shards, joins their results. */
async function startPlannerAlone(process: Process): Promise<Started> {
  const { backends, log, shutdown, onDeadLetter } = process
  const { ownTopics } = createServedModels({ ...backends, log, now: Date.now })
  await startPlanning(process, { ownTopics })
  watchAnnounced(process)
  const models = () => readServedModels(backends.store, log)
  const moving = moveLeftOver({ ...backends, models, ownTopics, onDeadLetter, log, now: Date.now })
  shutdown.add(() => moving.close())
  return { url: await serveOperations(process) }
}

const starts: Record<Role, (process: Process) => Promise<Started>> = {
  serve: startAll,
  edge: startEdgeAlone,
  processor: startProcessorAlone,
  planner: startPlannerAlone,
}

/**
 * Starts a role. Resolves when it is ready: a model has captioned a picture, and requests are accepted.
 *
 * @throws ModelFolderError, DeviceUnavailableError, StreamOpenError, StoreUnavailableError, ListenError, ConfigError:
 * each is one line with its remedy
 */
export async function startRole(role: Role, options: ServiceOptions): Promise<RunningService> {
  const { config, log } = options
  if (role !== 'serve') assertFleet(config)
  const shutdown = new Shutdown({
    onLate: () => log.warn({}, 'a part could not be closed in time, and is left to the end of the process'),
  })
  try {
    const stopTracing = await exportSpans({ ...options, name: `turbine-${role}` }, log)
    shutdown.add(() => stopTracing())
    const backends = await openBackends(config, log)
    shutdown.add(() => backends.close())
    const partitions = config.kafkaBrokers === undefined ? embeddedPartitions : config.partitions
    await backends.stream.ensureTopics(topicLayout(partitions))
    const metrics = createMetrics()
    const onDeadLetter = watchDeadLetters({ metrics, log })
    const images = openImages({ ...options, backends, metrics })
    shutdown.add(() => images.close())
    const started = await starts[role]({
      ...{ ...options, backends, shutdown, metrics, images, onDeadLetter, partitions },
    })
    return { ...started, close: () => shutdown.run(config.shutdownMs) }
  } catch (error) {
    await shutdown.run(0).catch((err) => log.warn({ err }, 'shutdown after a failed start failed'))
    throw error
  }
}

/** The images of all parts of the process, so that a host sees one pace. */
function openImages({
  metrics,
  backends: { buckets },
  ...options
}: Pick<Process, 'config' | 'version' | 'backends' | 'metrics'>): Images {
  const images = openConfiguredImages({ ...options, maxBytes: maxBodyBytes, buckets })
  metrics.gauge({
    name: 'image_requests_waiting',
    help: 'Image requests that wait for their turn at a host.',
    collect() {
      this.set(images.hosts.waiting)
    },
  })
  return images
}

/** @throws ConfigError unless a fleet's stream is set */
function assertFleet({ kafkaBrokers }: Config): void {
  if (kafkaBrokers !== undefined) return
  throw new ConfigError(
    'KAFKA_BROKERS is not set. A fleet needs it, and S3_ENDPOINT; "npx turbine serve" runs all roles in one process without them.',
  )
}

/** Time for which images wait for a batch that is run alone, ms. */
const longestHoldMs = 10_000

async function startPlanning(
  process: Process,
  more: Pick<PlannerOptions, 'isolation' | 'holdMs' | 'ownTopics'>,
): Promise<void> {
  const { config, backends, shutdown } = process
  // With an embedded stream no other planner can own the batches, so after a crash they are resumed at once.
  const owner = config.kafkaBrokers === undefined ? 'this-machine' : undefined
  // A pinned level is wanted.
  const repay = config.repay && config.pruning === 'adaptive'
  const planner = await startPlanner({ ...process, ...backends, ...more, owner, repay, now: Date.now })
  shutdown.add((drainMs) => planner.close(drainMs))
  const { sweepInterval: intervalMs, captionRetention: captionRetentionMs } = config
  if (intervalMs === undefined) return
  const sweeper = startSweeper({ ...process, ...backends, intervalMs, captionRetentionMs, now: Date.now })
  shutdown.add(() => sweeper.close())
}

/**
 * Watches the load of each announced model, also while no processor runs. Of those with the shared topics the last one counts,
 * which has replaced the others.
 */
function watchAnnounced(process: Process): void {
  const { backends, log, shutdown } = process
  const watches = watchFleet(process)
  let known: ServedModel[] = []
  const sharing = () => known.find(({ ownTopics }) => !ownTopics)
  const watchShared = () =>
    watches.add({ model: () => sharing()?.model.id ?? '', throughput: () => sharing()?.throughput })
  let shared: FleetWatch | undefined = watchShared()
  const own = new Set<string>()
  const look = async () => {
    known = (await readServedModels(backends.store, log)).toSorted((a, b) => b.seenAt - a.seenAt)
    for (const { model, ownTopics } of known) {
      if (!ownTopics || own.has(model.id)) continue
      own.add(model.id)
      const { id } = model
      const throughput = () => known.find(({ model }) => model.id === id)?.throughput
      watches.add({ model: () => id, ownTopics, throughput })
    }
    const isShared = known.length === 0 || sharing() !== undefined
    if (isShared) shared ??= watchShared()
    else if (shared) shared = void watches.remove(shared)
  }
  const failure = 'throughput of processors not read, retrying'
  const looking = repeat(look, { everyMs: announceModelMs, failure, log })
  shutdown.add(() => looking.close())
}

async function serveOperations(process: Process): Promise<string> {
  const { config, log, metrics, shutdown } = process
  const app = operationsApp({ readiness: readinessOf(process), metrics: createEdgeMetrics(metrics), log })
  const { host, port, operationsPort = port } = config
  const server = await serveNode(app, { host, port: operationsPort })
  shutdown.add((drainMs) => server.close(drainMs))
  return server.address
}

/** Ready when the stream and the store respond, and the process is not shutting down. */
function readinessOf({ backends: { stream, store }, shutdown }: Process) {
  const readiness = createReadiness({
    stream: () => stream.lag(topics.interactive, groups.interactive),
    store: storeProbe(store, { key: keys.ready, now: Date.now }),
  })
  return async () => {
    const { ready, checks } = await readiness()
    const process = shutdown.begun ? { ok: false, message: 'shutting down' } : { ok: true }
    return { ready: ready && process.ok, checks: { ...checks, process } }
  }
}

/** `held` counts requests that are being sent, in the stream, or waiting for a device; their models are not known yet. */
function roomIn(
  { models }: RunningProcessor,
  held: number,
  tenant: { id: string; held: number },
  { queueLimit }: Config,
): number {
  const limit = queueLimit * models.length
  const sum = (count: (model: RunningModel) => number) => models.reduce((sum, each) => sum + count(each), 0)
  // Jobs that do not fit into the memory wait in the stream, and those of who has many take all of the places.
  const isFull = models.every((model) => model.full())
  const taken = Math.max(
    held,
    sum((model) => model.inFlight()),
    isFull ? limit - 1 : 0,
  )
  const own = Math.max(
    tenant.held,
    sum((model) => model.inFlightOf(tenant.id)),
  )
  if (hasPlace({ limit, taken, own })) return 0
  return Math.max(1, Math.ceil(limit / sum(({ pipeline }) => pipeline.throughput)))
}

/** Of several models each has as many places as it would have alone. */
function rejection(
  processor: RunningProcessor,
  job: Parameters<RunningProcessor['rejection']>[0],
  { queueLimit: limit }: Config,
): TurbineError | undefined {
  const model = processor.models.find(({ model }) => model.id === job.model)
  const isCrowded =
    processor.models.length > 1 &&
    model !== undefined &&
    !hasPlace({ limit, taken: model.inFlight(), own: model.inFlightOf(job.tenant) })
  if (!isCrowded) return processor.rejection(job)
  const retryAfterSeconds = Math.max(1, Math.ceil(limit / model.pipeline.throughput))
  return retryLater('queue_full', `The queue is full. Retry in ${retryAfterSeconds} s.`, {
    ...{ status: 429, retryAfterSeconds },
  })
}

function summary({ model, pipeline }: Pick<RunningModel, 'model' | 'pipeline'>): ModelSummary {
  return {
    id: model.id,
    object: 'model',
    created: 0,
    owned_by: 'turbine',
    turbine: {
      image_size: unitOf(model.picture)[1],
      device: pipeline.devices.join(', '),
      precision: pipeline.precision,
      state: 'ready',
      ...pipeline.can,
      tokens_in: model.encoder.tokens,
      max_output_tokens: model.maxTokens,
      prune_levels: model.levels.map(({ pruneRatio, tokensOut }, level) => ({
        level,
        prune_ratio: pruneRatio,
        tokens_out: tokensOut,
      })),
    },
  }
}
