import { readFile } from 'node:fs/promises'
import { type Config, ConfigError } from '../../infra/config.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { bucketsUpTo } from '../engine/batch.ts'
import { openCostCache } from '../engine/cost-cache.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { resolveDevices } from '../engine/devices.ts'
import {
  askedPrecision,
  type ChosenPrecision,
  chooseOnCpu,
  chooseOnGpu,
  graphOf,
  type OnCpu,
} from '../engine/precision.ts'
import { testOnce } from '../engine/self-test.ts'
import type { CaptionModel } from '../models/model.ts'
import { type OpenOptions, openModel } from '../models/open-model.ts'
import type { Captioner } from './captioner.ts'
import type { BatchReport, StepReport } from './executor.ts'
import type { Loading } from './loading.ts'
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
    | 'decoders'
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
  const graph = graphOf(precision)
  const buckets = bucketsUpTo(config.maxBatch)
  const device = devices[0]!.name
  const settings = { precision, intraOpThreads }
  await testOnce(model, {
    device: devices[0]!,
    // What a graph is made of is compared in float32.
    graph: { float16: graph.float16 },
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
    decodersAtOnce: config.decoders || config.loaders || undefined,
    decodeTimeoutMs: config.decodeTimeoutMs,
    decodeBytes: config.decodeMemoryMb * 1024 ** 2 || undefined,
    pictures: new PictureMemory(pictureMemory(config.pictureMemoryMb)),
    maxPixels: config.maxPixels,
    truncated: config.truncated,
    decode: config.decode,
    prompt: config.prompt,
    precision: precision === 'float32' && model.dtype && model.dtype !== 'fp32' ? model.dtype : precision,
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

type PrecisionConfig = Pick<Config, 'precision' | 'dtype'>

/**
 * Resolves the precision of the configured model on a device.
 * @throws DeviceUnavailableError, ModelFolderError for one that they cannot compute in; DeviceOpenError
 */
export async function precisionOf(
  config: PrecisionConfig,
  model: CaptionModel,
  device: DeviceTarget,
): Promise<ChosenPrecision> {
  if (device.provider === 'cpu') return precisionOnCpu(config, model)
  const asked = askedPrecision(config.precision, model, device)
  if (asked) return asked
  if (model.dtype) return ofItsWeights(config, model.dtype)
  return chooseOnGpu({
    model,
    device,
    images: await Promise.all(bundledPictures.map((file) => readFile(file))),
  })
}

/** The same on a CPU. @throws ModelFolderError */
export async function precisionOnCpu(config: PrecisionConfig, model: OnCpu): Promise<ChosenPrecision> {
  const asked = askedPrecision(config.precision, model, { name: 'cpu', provider: 'cpu' })
  if (asked) return asked
  const chosen = config.precision === 'auto' ? await chooseOnCpu(model) : undefined
  if (chosen && (model.dtype ?? 'fp32') === 'fp32' && (!model.dtype || chosen.precision === 'int8'))
    return chosen
  return ofItsWeights(config, model.dtype!)
}

function ofItsWeights({ dtype }: PrecisionConfig, type: string): ChosenPrecision {
  const why = dtype === 'auto' ? 'of those that are there' : 'as configured'
  return { precision: 'float32', reason: `weights of type ${type}, ${why}` }
}

/**
 * Opens the model for a run over files: nobody waits for single images, so batches are as large as possible.
 * @param loading what reads the images; default: decoders of the model's own
 */
export async function openCaptioner(config: Config, loading?: Loading): Promise<Captioner> {
  const { pipeline } = await openPipeline(config, {
    interactiveTargetMs: Number.POSITIVE_INFINITY,
    decoders: loading?.decoders,
  })
  return pipeline
}
