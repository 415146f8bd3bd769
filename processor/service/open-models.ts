import { join } from 'node:path'
import { maxBodyBytes } from '../../edge/contract/caption.ts'
import { type Config, ConfigError } from '../../infra/config.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { unhonouredText } from '../models/generation/unhonoured.ts'
import { pinnedLevel } from '../pipeline/captioner.ts'
import { type Loading, openLoading } from '../pipeline/loading.ts'
import { measureLoaders } from '../pipeline/loading-metrics.ts'
import { measurePipeline } from '../pipeline/metrics.ts'
import { type OpenPipeline, openPipeline } from '../pipeline/open.ts'
import { PictureMemory, pictureMemory } from '../pipeline/picture-memory.ts'
import { DeviceTurns } from '../scheduling/device-turns.ts'
import type { Backlog, Lane } from '../scheduling/level.ts'

export interface OpenModelsOptions {
  config: Config
  /** Of Turbine. */
  version: string
  log: Logger
  metrics: Metrics
  /** Images of a model that will arrive here, and are in no queue yet. */
  upstream(model: string, lane: Lane, now: number): readonly Backlog[]
}

export interface OpenModels {
  /** Reads and decodes the images of all of them. */
  loading: Loading
  /** In the order of the setting. */
  opened: OpenPipeline[]
  /** Called for every rejected request. */
  onRejected(reason: 'full' | 'late'): void
}

/**
 * Opens all configured models on the configured devices, one after the other, since run times are measured. Each has sessions, a
 * queue and a cost model of its own; at a device they take turns.
 * @throws ConfigError, ModelFolderError, DeviceUnavailableError, TurbineError `level_unknown`
 */
export async function openModels(options: OpenModelsOptions, shutdown: Shutdown): Promise<OpenModels> {
  const { config, log, metrics, upstream } = options
  const measured = measurePipeline(metrics)
  const measuredLoaders = measureLoaders(metrics)
  const loading = await openLoading(config, {
    ...options,
    maxBytes: maxBodyBytes,
    onDecoded: measured.onDecoded,
    onLost: (kind, reason) => {
      measured.onLost(kind, reason)
      if (reason !== 'preempted') log.warn({ decoder: kind, reason }, 'decoder lost, another is started')
    },
    onRead: measuredLoaders.onRead,
    onCrash: (err) => {
      measuredLoaders.onCrash()
      log.error({ err }, 'loader crashed, restarting')
    },
  })
  shutdown.add(() => loading.close())
  measuredLoaders.watch(loading)
  const turns = config.model.length > 1 ? new DeviceTurns() : undefined
  const pictures = new PictureMemory(pictureMemory(config.pictureMemoryMb))
  const opened: OpenPipeline[] = []
  for (const folder of config.model) {
    let id: string | undefined
    const { pipeline, model, devices } = await openPipeline(config, {
      ...{ folder, turns, pictures, decoders: loading.decoders },
      interactiveTargetMs: config.sloMs,
      level: pinnedLevel(config.pruning),
      upstream: (lane, now) => (id === undefined ? [] : upstream(id, lane, now)),
      costFolder: join(config.dataDir, 'costs'),
      onBatch: measured.onBatch,
      onSteps: measured.onSteps,
      onCacheError: (err) =>
        log.warn({ err }, 'measured run times not stored; the next start measures again'),
      onCrash: (err) => {
        measured.onCrash()
        log.error({ err }, 'device crashed, restarting')
      },
    })
    shutdown.add(() => pipeline.close())
    if (opened.some((other) => other.model.id === model.id)) throw twice(model.id)
    id = model.id
    opened.push({ pipeline, model, devices })
    measured.watch(pipeline)
    const decoders = pipeline.decoders.budget
    log.info({ model: model.id, levels: model.levels.length, device: devices, decoders }, 'model is ready')
    if (model.unhonoured?.length) log.warn({ model: model.id }, unhonouredText(model.unhonoured))
    const loneMs = Math.round(pipeline.costs.predict(pipeline.costs.buckets[0]!, 0))
    if (loneMs > config.sloMs)
      log.warn({ loneMs, sloMs: config.sloMs }, 'one image takes longer than TURBINE_SLO_MS; increase it')
  }
  log.info({ ...loading.split, sharpThreads: 1 }, 'cores are split')
  return { opened, loading, onRejected: measured.onRejected }
}

const twice = (id: string) =>
  new ConfigError(
    `TURBINE_MODEL names two folders whose model is "${id}". Callers could not tell them apart.`,
  )
