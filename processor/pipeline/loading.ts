import { imageLimitsOf } from '../../edge/contract/image.ts'
import type { Config } from '../../infra/config.ts'
import { type CoreSplit, splitCores } from '../../infra/cores.ts'
import { DecoderPool, type DecoderPoolOptions, planDecoders } from '../decoding/decoder-pool.ts'
import { Loaders, type LoadersOptions } from '../decoding/loaders/loaders.ts'
import { resolveDevices } from '../engine/devices.ts'

/** What reads and decodes the images of a process, for all of its models. */
export interface Loading {
  loaders: Loaders
  decoders: DecoderPool
  /** How the cores are split. */
  split: CoreSplit
  close(): Promise<void>
}

export interface LoadingOptions
  extends Pick<DecoderPoolOptions, 'onDecoded' | 'onLost'>,
    Pick<LoadersOptions, 'onRead' | 'onCrash'> {
  /** Of Turbine. */
  version: string
  /** Bytes of an image at most. */
  maxBytes: number
  /** Whether it reads files by their paths. Default: false. */
  readsFiles?: boolean
}

/** Starts the loaders that the settings name. @throws DeviceUnavailableError, InvalidDeviceError */
export async function openLoading(
  config: Config,
  { version, maxBytes, readsFiles = false, onRead, onCrash, ...options }: LoadingOptions,
): Promise<Loading> {
  const { devices } = await resolveDevices(config.device)
  const split = splitCores({ ...config, onCpu: devices.some(({ provider }) => provider === 'cpu') })
  const budget = planDecoders(split.decoders, undefined, config.decodeMemoryMb * 1024 ** 2)
  const loaders = new Loaders({
    // Threads beyond the decoders that memory allows would have nothing to do.
    size: config.loaders || Math.min(split.loaders, budget.perLane),
    settings: { config, version, maxBytes, limits: imageLimitsOf(config), readsFiles },
    hasBuckets: config.s3Endpoint !== undefined || config.kafkaBrokers !== undefined,
    onRead,
    onCrash,
  })
  const decoders = new DecoderPool({
    ...options,
    budget,
    timeoutMs: config.decodeTimeoutMs,
    maxPixels: config.maxPixels,
    truncated: config.truncated,
    decode: config.decode,
    spawn: (settings) => loaders.startDecoder(settings),
  })
  return {
    loaders,
    decoders,
    split: { ...split, loaders: loaders.size, decoders: budget.perLane },
    async close() {
      await decoders.close()
      await loaders.close()
    },
  }
}
