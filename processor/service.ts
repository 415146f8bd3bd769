import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApp } from '../edge/app.ts'
import { maxBodyBytes, maxHoldMs } from '../edge/contract/caption.ts'
import type { ModelSummary } from '../edge/contract/model.ts'
import { defaultTenant } from '../edge/contract/tenant.ts'
import { groups, topics } from '../edge/contract/topics.ts'
import type { Admission } from '../edge/deps.ts'
import { createMailbox } from '../edge/mailbox.ts'
import { createEdgeMetrics } from '../edge/metrics.ts'
import { serveNode } from '../edge/server.ts'
import type { Config } from '../infra/config.ts'
import { createImageFetcher } from '../infra/fetch-image.ts'
import { bundledPictures } from '../infra/starter-model/bundled.ts'
import { openDirectoryStore } from '../infra/store/directory.ts'
import { openSqliteStream } from '../infra/stream/sqlite.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import { createMetrics } from '../infra/telemetry/metrics.ts'
import type { RunningService } from './commands/serve.ts'
import { interactiveJobs } from './interactive-jobs.ts'
import type { CaptionModel } from './models/model.ts'
import { openPipeline } from './open-captioner.ts'
import type { Pipeline } from './pipeline.ts'
import { measurePipeline } from './pipeline-metrics.ts'

export interface ServiceOptions {
  config: Config
  log: Logger
  version: string
}

const warmUpImage = bundledPictures[0]!

/**
 * The whole of Turbine in one process: the HTTP edge, the durable stream, the processor with its devices, and the
 * object store. Resolves when the model has captioned a picture and requests can come.
 *
 * @throws ModelFolderError, DeviceUnavailableError, StreamOpenError, StoreUnavailableError, ListenError: each is one
 * line with its remedy
 */
export async function startService({ config, log, version }: ServiceOptions): Promise<RunningService> {
  const closers: Closer[] = []
  const close = async (ms: number) => {
    const drainUntil = Date.now() + ms
    for (const closer of closers.reverse()) await closer(Math.max(0, drainUntil - Date.now()))
  }
  try {
    const started = await start({ config, log, version }, (closer) => closers.push(closer))
    return { ...started, close: () => close(config.shutdownMs) }
  } catch (error) {
    await close(0)
    throw error
  }
}

/** Closes one part; `drainMs` is what is left for work in hand. What was opened last is closed first. */
type Closer = (drainMs: number) => Promise<void>

async function start(
  { config, log, version }: ServiceOptions,
  onClose: (closer: Closer) => void,
): Promise<Omit<RunningService, 'close'>> {
  // The stream first: its lock keeps a second process out of the whole folder.
  const stream = await openSqliteStream({ path: join(config.dataDir, 'stream.db') })
  onClose(() => stream.close())
  const store = await openDirectoryStore(join(config.dataDir, 'store'))
  onClose(() => store.close())
  await stream.ensureTopics({
    [topics.interactive]: { partitions: 4 },
    [topics.deadLetter]: { partitions: 1 },
  })

  const metrics = createMetrics()
  const measured = measurePipeline(metrics)
  const { pipeline, model, devices } = await openPipeline(config, {
    interactiveTargetMs: config.sloMs,
    onBatch: measured.onBatch,
    onCrash: (err) => {
      measured.onCrash()
      log.error({ err }, 'a device crashed and is restarted')
    },
  })
  onClose(() => pipeline.close())
  measured.watch(pipeline)
  log.info({ model: model.id, levels: model.levels.length, device: devices }, 'model is ready')
  const warmUp = await pipeline.caption({ image: await readFile(warmUpImage), lane: 'interactive' })

  const mailbox = createMailbox()
  const consumer = await stream.consume({
    topic: topics.interactive,
    group: groups.interactive,
    maxInFlight: config.queueLimit,
    handle: interactiveJobs({
      captioner: pipeline,
      store,
      stream,
      deliver: (_replyTo, caption) => void mailbox.deliver(caption.id, caption),
      onDeadLetter: (err) => log.error({ err }, 'a record went to the dead letters'),
      now: Date.now,
    }),
    onError: (err) => log.warn({ err }, 'a record could not be handled now; it comes again'),
  })
  onClose((drainMs) => consumer.close(drainMs))

  const images = createImageFetcher({
    maxBytes: maxBodyBytes,
    timeoutMs: config.imageTimeoutMs,
    allowPrivate: config.allowPrivateUrls,
  })
  onClose(() => images.close())

  let ready = true
  const app = createApp({
    stream,
    store,
    accounts: {
      configured: async () => false,
      tenantOfKey: async () => undefined,
      defaultTenant: async () => defaultTenant,
    },
    limiter: { acquire: async () => ({ granted: true, release: () => {} }) },
    mailbox,
    models: () => [summary(model, pipeline)],
    admission: (held) => admissionOf(pipeline, Math.max(held, consumer.inFlight), config),
    readiness: () => ({
      ready,
      checks: { model: { ok: ready, message: ready ? undefined : 'shutting down' } },
    }),
    metrics: createEdgeMetrics(metrics),
    fetchImage: async (url, { signal }) => (await images.fetch(url, { signal })).bytes,
    now: Date.now,
    newId: randomUUID,
    log,
    sloMs: config.sloMs,
    version,
  })
  const server = await serveNode(app, {
    host: config.host,
    port: config.port,
    releaseWaiting: mailbox.release,
  })

  onClose((drainMs) => {
    ready = false
    return server.close(drainMs)
  })
  return { url: server.address, warmUpCaption: warmUp.caption, warmUpImage }
}

/**
 * Refuses only what could not even be answered late: a caller who is held for `maxHoldMs` gets an address to poll.
 * `open` requests count whether they are on their way into the stream, wait there or wait for a device.
 */
function admissionOf(pipeline: Pipeline, open: number, config: Config): Admission {
  const decision = pipeline.runner.admission(Date.now() + maxHoldMs)
  if (!decision.admitted) return { admit: false, retryAfterSeconds: decision.retryAfterSeconds }
  if (open < config.queueLimit) return { admit: true }
  const drainSeconds = config.queueLimit / (pipeline.costs.throughput(0) * pipeline.devices.length)
  return { admit: false, retryAfterSeconds: Math.max(1, Math.ceil(drainSeconds)) }
}

function summary(model: CaptionModel, pipeline: Pipeline): ModelSummary {
  return {
    id: model.id,
    object: 'model',
    created: 0,
    owned_by: 'turbine',
    turbine: {
      image_size: model.image.width,
      device: pipeline.devices.join(', '),
      tokens_in: model.encoder.tokens,
      prune_levels: model.levels.map(({ pruneRatio, tokensOut }, level) => ({
        level,
        prune_ratio: pruneRatio,
        tokens_out: tokensOut,
      })),
    },
  }
}
