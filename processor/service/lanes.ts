import { imageLimitsOf } from '../../edge/contract/image.ts'
import { type JobLane, jobTopic } from '../../edge/contract/topics.ts'
import type { Backends } from '../../infra/backends.ts'
import type { Config } from '../../infra/config.ts'
import type { Images } from '../../infra/fetch/configured.ts'
import { workingMemory } from '../../infra/memory.ts'
import type { ConsumedRecord, ConsumeOptions, Consumer } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import { inSpan, SpanKind } from '../../infra/telemetry/tracing.ts'
import { withCrashMarks } from '../delivery/crash-marks.ts'
import { type DeadLetterOptions, type RecordHandler, withDeadLetters } from '../delivery/dead-letters.ts'
import type { Isolation } from '../delivery/isolation.ts'
import type { ResultWrites } from '../delivery/result-writes.ts'
import type { ModelTopics } from '../fleet/model-topics.ts'
import { type RouteOptions, routed } from '../fleet/route.ts'
import { type BatchMetrics, batchJobs, shardSharing } from '../jobs/batch.ts'
import type { InteractiveJobs } from '../jobs/interactive.ts'
import type { Captioner } from '../pipeline/captioner.ts'

/** Concurrent shards: while the last lines of one are slow, the others keep the devices busy. */
const shardsInFlight = 32
/** Concurrent shards of one tenant; the rest are for others, however slow its images are. */
const tenantShards = 8
/** Shards known beside those: so far ahead, others find theirs. */
const waitingShards = 512

/** Share of the working memory that images of interactive records may take, and again those that are sent by key. */
const imageShare = 1 / 6
export const imageBytes = ({ memoryMb }: Pick<Config, 'memoryMb'>) =>
  Math.floor(imageShare * workingMemory(memoryMb))

export interface ConsumeJobsOptions {
  config: Config
  log: Logger
  backends: Backends
  metrics: BatchMetrics
  images: Pick<Images, 'imageAt'>
  onDeadLetter: DeadLetterOptions['onDeadLetter']
  isolation: Isolation
  results: ResultWrites
  /** Topics of the model's jobs. */
  topics: ModelTopics
  ownTopics: RouteOptions['ownTopics']
}

/** Consumers of a lane of one model: of its own topic, the shared one, or both. */
export class LaneConsumers {
  readonly #consumers: Consumer[]

  constructor(consumers: Consumer[]) {
    this.#consumers = consumers
  }

  get inFlight(): number {
    return this.#consumers.reduce((sum, { inFlight }) => sum + inFlight, 0)
  }

  get full(): boolean {
    return this.#consumers.some(({ full }) => full)
  }

  async close(drainMs: number): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.close(drainMs)))
  }
}

export function consumeInteractive(
  jobs: InteractiveJobs,
  options: ConsumeJobsOptions,
): Promise<LaneConsumers> {
  const { config } = options
  return consumeLane('interactive', jobs, options, {
    maxInFlight: config.queueLimit,
    maxInFlightBytes: Math.ceil(imageBytes(config) / config.model.length),
  })
}

export function consumeBatch(captioner: Captioner, options: ConsumeJobsOptions): Promise<LaneConsumers> {
  const { config, log, backends, metrics, results, images } = options
  const { stream, store, buckets, ownBucket } = backends
  const jobs = batchJobs({
    captioner,
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
  return consumeLane('batch', jobs, options, {
    maxInFlight: shardsInFlight,
    sharing: { perOwner: tenantShards, waiting: waitingShards, ...shardSharing },
  })
}

async function consumeLane(
  lane: JobLane,
  jobs: RecordHandler,
  options: ConsumeJobsOptions,
  limits: Pick<ConsumeOptions, 'maxInFlight' | 'maxInFlightBytes' | 'sharing'>,
): Promise<LaneConsumers> {
  const { topics, backends, ownTopics } = options
  const { stream } = backends
  const consumers: Consumer[] = []
  const consume = async (model: string | undefined, handler: RecordHandler) =>
    consumers.push(
      await stream.consume({ ...jobTopic(lane, model), ...limits, ...handling(handler, options) }),
    )
  if (topics.own) await consume(topics.model, jobs)
  if (topics.shared) await consume(undefined, routed(jobs, topics.model, { lane, stream, ownTopics }))
  return new LaneConsumers(consumers)
}

/** Wraps a handler with dead letters, crash marks and tracing. */
function handling(
  handler: RecordHandler,
  {
    log,
    backends: { stream, store },
    onDeadLetter,
    isolation,
  }: Pick<ConsumeJobsOptions, 'log' | 'backends' | 'onDeadLetter' | 'isolation'>,
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
