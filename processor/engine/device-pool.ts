import { userCacheFolder } from '../../infra/user-cache.ts'
import type { CaptionModel, GraphOptions, SessionGraphs } from '../models/model.ts'
import { int8Graphs } from '../onnx/int8/int8-graphs.ts'
import { mostOnThisCpu } from '../onnx/int8/largest-whole.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { defaultBuckets } from './batch.ts'
import { Device, type DeviceOptions } from './device.ts'
import type { DeviceTarget } from './device-target.ts'
import { anyShapes, sessionOptions } from './session-options.ts'

export interface DeviceGraphOptions extends Omit<GraphOptions, 'decoder' | 'gpu'> {
  /** Runs linear layers in int8, everything else in float32. */
  int8?: boolean
}

export interface DevicePoolOptions extends Pick<DeviceOptions, 'onCrash' | 'spawn' | 'pause'> {
  model: CaptionModel
  devices: DeviceTarget[]
  /** Threads per operator; default: all cores on a CPU, one for a GPU. */
  intraOpThreads?: number
  /** Batch sizes that batches are padded to. */
  buckets?: number[]
  /** Graph options, e.g. `{ trace: true }`. */
  graph?: DeviceGraphOptions
}

/** Devices that serve a model, each with its own thread and session. */
export class DevicePool {
  readonly devices: readonly Device[]
  /** Batch sizes, ascending. */
  readonly buckets: readonly number[]

  private constructor(devices: Device[], buckets: number[]) {
    this.devices = devices
    this.buckets = buckets
  }

  /**
   * Opens a session on every device.
   * @throws DeviceOpenError when one fails; the others are closed
   * @example const pool = await DevicePool.start({ model, devices: (await resolveDevices('auto')).devices })
   */
  static async start(options: DevicePoolOptions): Promise<DevicePool> {
    const { model, devices, intraOpThreads, graph, onCrash, spawn, pause } = options
    const buckets = [...(options.buckets ?? defaultBuckets)].sort((a, b) => a - b)
    const started = await Promise.allSettled(
      devices.map(async (target) =>
        Device.start({
          target,
          buckets,
          worker: {
            plan: model.runner,
            sessions: await buildSessions(model, target, graph),
            options: {
              ...sessionOptions(target, intraOpThreads),
              ...(model.runner.kind !== 'captioner' && anyShapes),
            },
          },
          onCrash,
          spawn,
          pause,
        }),
      ),
    )
    const open = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const failed = started.find((result) => result.status === 'rejected')
    if (failed) {
      await Promise.all(open.map((device) => device.close()))
      throw failed.reason
    }
    return new DevicePool(open, buckets)
  }

  /** Largest batch of a device. */
  get maxBatch(): number {
    return this.buckets.at(-1)!
  }

  /** Finishes the batches in flight, then ends the threads. */
  async close(): Promise<void> {
    await Promise.all(this.devices.map((device) => device.close()))
  }
}

async function buildSessions(
  model: CaptionModel,
  { provider }: DeviceTarget,
  { int8 = false, ...graph }: DeviceGraphOptions = {},
): Promise<SessionGraphs> {
  const sessions = await model.buildSessions({ ...graph, gpu: provider === 'cuda' })
  if (!int8) return sessions
  const cache = userCacheFolder('int8')
  if (cache === undefined)
    throw new ModelFolderError(
      'int8 needs a folder for its weights that nobody else can write to. Set XDG_CACHE_HOME to one.',
    )
  return int8Graphs(sessions, { cache, most: await mostOnThisCpu() })
}
