import { readFile } from 'node:fs/promises'
import { type Config, ConfigError } from '../../infra/config.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { bucketsUpTo } from '../engine/batch.ts'
import { openCostCache } from '../engine/cost-cache.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { resolveDevices } from '../engine/devices.ts'
import { choosePrecision } from '../engine/precision.ts'
import { testOnce } from '../engine/self-test.ts'
import type { CaptionModel } from '../models/model.ts'
import { type OpenOptions, openModel } from '../models/open-model.ts'
import type { Captioner } from './captioner.ts'
import type { BatchReport, StepReport } from './executor.ts'
import { PictureMemory, pictureMemory } from './picture-memory.ts'
import { Pipeline, type PipelineOptions } from './pipeline.ts'

/** Running pipeline with its model and devices. */
export interface OpenPipeline {
  pipeline: Pipeline
  model: CaptionModel
  /** Chosen devices with the reason, one line. */
  devices: string
}

export interface OpenPipelineOptions
  extends Pick<
    PipelineOptions,
    | 'interactiveTargetMs'
    | 'level'
    | 'upstream'
    | 'turns'
    | 'onDecoded'
    | 'onLost'
    | 'onCacheError'
    | 'onCrash'
    | 'pictures'
  > {
  /** Called after every run of the model. */
  onBatch?(model: string, run: BatchReport): void
  /** Called after steps of captions that are made step by step. */
  onSteps?(model: string, steps: StepReport): void
  /** The model's folder; default: the only one configured. */
  folder?: string
  /** Folder for measured run times and passed self-tests, reused at the next start; default: none. */
  costFolder?: string
}

/**
 * Folder of the model of a command that runs one.
 * @throws ConfigError when there are several
 */
function onlyModel({ model: [first, ...more] }: Pick<Config, 'model'>): string {
  if (first !== undefined && more.length === 0) return first
  throw new ConfigError(
    `This command runs one model, and ${1 + more.length} are set. Name it with --model, or set TURBINE_MODEL to it.`,
  )
}

/**
 * Opens a configured model on the configured devices.
 * @throws ConfigError, ModelFolderError, DeviceUnavailableError, DeviceOpenError, InvalidDeviceError, TurbineError `level_unknown`
 */
export async function openPipeline(
  config: Config,
  { costFolder, folder = onlyModel(config), onBatch, onSteps, ...options }: OpenPipelineOptions,
): Promise<OpenPipeline> {
  const { devices, reason } = await resolveDevices(config.device)
  const model = await openConfigured(config, devices[0]!, folder)
  const { precision, reason: precisionReason } = await precisionOf(config, model, devices[0]!)
  const intraOpThreads = config.intraOpThreads || undefined
  const graph = { float16: precision === 'float16' }
  const buckets = bucketsUpTo(config.maxBatch)
  const device = devices[0]!.name
  const settings = { precision, intraOpThreads }
  await testOnce(model, {
    device: devices[0]!,
    graph,
    intraOpThreads,
    folder: costFolder,
    onNoteError: options.onCacheError,
  })
  const pipeline = await Pipeline.start({
    model,
    devices,
    intraOpThreads,
    buckets,
    costCache: costFolder
      ? await openCostCache({ folder: costFolder, model, device, buckets, settings })
      : undefined,
    queueLimit: config.queueLimit,
    decoders: config.decoders || undefined,
    decodeTimeoutMs: config.decodeTimeoutMs,
    decodeBytes: config.decodeMemoryMb * 1024 ** 2 || undefined,
    pictures: new PictureMemory(pictureMemory(config.pictureMemoryMb)),
    maxPixels: config.maxPixels,
    truncated: config.truncated,
    prompt: config.prompt,
    rules: { openings: config.stripOpenings, wholeSentences: config.wholeSentences },
    graph,
    onBatch: onBatch && ((run) => onBatch(model.id, run)),
    onSteps: onSteps && ((steps) => onSteps(model.id, steps)),
    ...options,
  })
  return { pipeline, model, devices: `${reason}; ${precisionReason}` }
}

/**
 * Opens a configured model, in the type of its weights that suits a device.
 * @param folder default: the only one configured
 * @throws ConfigError, ModelFolderError
 */
export const openConfigured = (
  config: Config,
  { provider }: DeviceTarget,
  folder = onlyModel(config),
): Promise<CaptionModel> =>
  openModel(folder, { ...openOptions(config), device: provider === 'cpu' ? 'cpu' : 'gpu' })

/** What settings say of how a model is opened. */
export const openOptions = ({
  dtype,
  picturePixels,
}: Pick<Config, 'dtype' | 'picturePixels'>): OpenOptions => ({
  ...(dtype !== 'auto' && { dtype }),
  picturePixels,
})

/** Resolves the precision of the configured model on a device, with the reason. */
export async function precisionOf({ precision, dtype }: Config, model: CaptionModel, device: DeviceTarget) {
  if (model.dtype) {
    const why = dtype === 'auto' ? 'of those that are there' : 'as configured'
    return { precision: 'float32' as const, reason: `weights of type ${model.dtype}, ${why}` }
  }
  if (precision !== 'auto') return { precision, reason: `${precision}, as configured` }
  return choosePrecision({
    model,
    device,
    images: await Promise.all(bundledPictures.map((file) => readFile(file))),
  })
}

/** Opens the model for a run over files: nobody waits for single images, so batches are as large as possible. */
export async function openCaptioner(config: Config): Promise<Captioner> {
  const { pipeline } = await openPipeline(config, { interactiveTargetMs: Number.POSITIVE_INFINITY })
  return pipeline
}
