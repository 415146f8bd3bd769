import { ImageError, retryLater, type TurbineError } from '../../edge/contract/errors.ts'
import { checkWork, defaultDecodeBytes, defaultMaxPixels, type Truncated } from '../../edge/contract/image.ts'
import type { ImageWork } from '../../edge/contract/image-work.ts'
import { memoryLimit } from '../../infra/memory.ts'
import type { PreprocessOptions } from '../engine/preprocess.ts'
import { mostPictureBytes, type PictureRule } from '../models/pictures.ts'
import { type Lane, lanes } from '../scheduling/level.ts'
import {
  type Decoded,
  type DecodeJob,
  type DecodeLimits,
  Decoder,
  DecoderLostError,
  type DecoderOptions,
  heavyNiceness,
  type LossReason,
  type RunningDecoder,
} from './decoder.ts'
import { DecoderGroup } from './decoder-group.ts'
import { HeavyPlaces } from './heavy-places.ts'
import { checkedWork } from './loaders/loaded-image.ts'

/** Kinds of decoders: one for the quick images of each lane, one for all that take long or much memory. */
export const decoderKinds = [...lanes, 'heavy'] as const
export type DecoderKind = (typeof decoderKinds)[number]

/** How many decoders of each kind there are at most, and what they may take. */
export interface DecoderBudget {
  /** Of each lane. */
  perLane: number
  /** More in each lane, for images that take long while another tenant's wait. */
  overtime: number
  heavy: number
  /** Memory of heavy images together, and the most for one, bytes. */
  heavyBytes: number
}

export interface DecoderPoolOptions {
  budget: DecoderBudget
  /** Maximum pixels of an image. Default: 250 million. */
  maxPixels?: number
  /** What is done with an image whose end is missing. Default: `refuse`. */
  truncated?: Truncated
  /** Whether decoders shrink large JPEGs while they decode. Default: `exact`, they do not. */
  decode?: PreprocessOptions['decode']
  /** Maximum CPU time of an image, ms. */
  timeoutMs: number
  /** Called for every decoded image, with its time and its CPU time, ms. */
  onDecoded?(kind: DecoderKind, ms: number, cpuMs: number): void
  /** Called for every decoder that was lost. */
  onLost?(kind: DecoderKind, reason: LossReason): void
  /** Starts a decoder. */
  spawn?(options: DecoderOptions): RunningDecoder
  /** A decoder that is idle for so long is ended, ms. */
  idleMs?: number
  /** Unix ms. */
  now?(): number
}

export interface DecodeTask extends DecodeJob {
  lane: Lane
  /** Who shares decoders fairly with others, e.g. a tenant. Default: everybody. */
  owner?: string
  signal?: AbortSignal
}

/** What the pool tells of a decoded image. */
export interface PoolDecoded extends Decoded {
  /** Time of its decoder, ms. */
  ms: number
}

/** Memory of an idle decoder, bytes. */
const decoderBytes = 100_000_000
/** Images that take no more than this are quick. */
const quickBytes = 64_000_000
const quickCpuMs = 250
/** CPU time after which an image was not quick, whatever its header says, ms. */
const laneCpuMs = 2 * quickCpuMs
/** Time that an image may keep another tenant's waiting, ms; it goes on beside them. */
const patienceMs = 100
/** Memory beside what was estimated, for what the estimate does not know, bytes. */
const spareBytes = 32_000_000
/** CPU time for each that was estimated: machines and images are slower than the estimate. */
const cpuSlack = 10
const leastCpuMs = 1000
/** Time for each of CPU time, where other work has the cores. */
const wallSlack = 6
/** Images of an owner are all heavy after so many lost decoders, until none was lost for a while, ms. */
const suspectLosses = 3
const suspectMs = 60_000
const maxSuspects = 1000
/** An image is interrupted so often, then no more. */
const maxInterruptions = 3

/**
 * Plans decoders for a machine. What they take at most follows the memory that the process may use: a quarter of it for
 * heavy images, another for the decoders themselves.
 * @param size decoders of a lane
 * @param decodeBytes memory for heavy images where that is set, and not to follow
 */
export function planDecoders(size: number, memory = memoryLimit(), decodeBytes = 0): DecoderBudget {
  const affordable = Math.floor(memory / 4 / (decoderBytes + quickBytes))
  const perLane = Math.max(1, Math.min(size, affordable >> 1))
  const overtime = Math.max(0, Math.min(perLane, Math.ceil(affordable / 2 - perLane)))
  const heavy = Math.max(1, perLane >> 1)
  const heavyBytes = decodeBytes || Math.min(memory / 4, Math.max(defaultDecodeBytes, heavy * quickBytes))
  return { perLane, overtime, heavy, heavyBytes }
}

/**
 * Decodes images in processes of their own, within limits of memory and time that hold whatever is in a file: a decoder
 * that goes beyond is killed. Each lane has decoders for quick images; those that take long or much memory share a few of
 * low priority. Tenants take turns.
 *
 * @example
 * const pool = new DecoderPool({ budget: planDecoders(4), timeoutMs: 10_000 })
 * await pool.decode({ image, rule: model.picture, target: () => slot.pixels, lane: 'batch', owner: 'acme' })
 */
export class DecoderPool {
  readonly #options: DecoderPoolOptions
  readonly #groups: Record<DecoderKind, DecoderGroup>
  readonly #heavyPlaces: HeavyPlaces
  /** Images that were too much, by owner, and until when they count. */
  readonly #losses = new Map<string, { count: number; until: number }>()

  constructor(options: DecoderPoolOptions) {
    const { budget, idleMs = 30_000, spawn = (settings) => new Decoder(settings) } = options
    const { perLane, heavy, heavyBytes } = budget
    const { maxPixels = defaultMaxPixels, truncated = 'refuse', decode = 'exact' } = options
    const start = (niceness?: number) => () =>
      spawn({ preprocess: { maxPixels, truncated, decode }, niceness })
    this.#options = options
    const overtime = { afterMs: patienceMs, size: budget.overtime }
    const quick = { size: perLane, overtime, idleMs, spawn: start() }
    this.#groups = {
      interactive: new DecoderGroup({ ...quick, spare: 1 }),
      batch: new DecoderGroup(quick),
      heavy: new DecoderGroup({ size: heavy, idleMs, spawn: start(heavyNiceness) }),
    }
    this.#heavyPlaces = new HeavyPlaces(heavyBytes)
  }

  /** How many there can be, and what they may take. */
  get budget(): DecoderBudget {
    return this.#options.budget
  }

  /** Decoders by what they do. */
  count(kind: DecoderKind, state: 'busy' | 'idle'): number {
    return this.#groups[kind][state]
  }

  /** Starts a decoder ahead of the first image. */
  warm(lane: Lane): void {
    this.#groups[lane].warm()
  }

  /**
   * Decodes an image into its target, as `preprocess` does; the target is unchanged if it fails.
   * @throws ImageError `image_invalid`, `image_too_large`, `image_too_complex`; TurbineError `decoder_unavailable`; the
   * signal's reason
   */
  async decode(task: DecodeTask): Promise<PoolDecoded> {
    const { image, rule, lane, owner = '' } = task
    const { budget, maxPixels = defaultMaxPixels } = this.#options
    const limits = { maxPixels, maxDecodeBytes: budget.heavyBytes }
    const work = checkedWork(image, 'image', limits)
    if (work) checkWork(work, { maxBytes: budget.heavyBytes, param: 'image' })
    const ample = limitsOf(work, rule, this.#options.timeoutMs)
    if (isQuick(work) && this.#lossesOf(owner) < suspectLosses) {
      const inLane = withCpuMs(ample, Math.min(ample.cpuMs, laneCpuMs))
      const lost = await this.#decodeWith(lane, task, inLane).catch(lossOf)
      if (!(lost instanceof DecoderLostError)) return lost
      // A decoder can die of something else, and a header can be wrong. Once more, where it harms nobody.
      if (lost.reason !== 'crash' && lost.reason !== 'time') throw this.#refusal(lost, owner)
      if (lost.reason === 'time') this.#countLoss(owner)
    }
    return this.#decodeHeavy(task, ample).catch((error: unknown) => {
      throw this.#refusal(lossOf(error), owner)
    })
  }

  /** Ends all decoders; images that are being decoded are lost. */
  async close(): Promise<void> {
    await Promise.all(Object.values(this.#groups).map((group) => group.close()))
  }

  async #decodeHeavy(task: DecodeTask, limits: DecodeLimits): Promise<PoolDecoded> {
    const { lane, owner = '', signal } = task
    const { heavy, heavyBytes } = this.#options.budget
    // A place is a part of the memory, so that there are no more images than decoders.
    const bytes = Math.min(heavyBytes, Math.max(limits.memoryBytes, heavyBytes / heavy))
    for (let interruptions = 0; ; interruptions++) {
      const interrupted = Promise.withResolvers<void>()
      const interrupt = interruptions < maxInterruptions ? interrupted.resolve : undefined
      const leave = await this.#heavyPlaces.enter({ lane, owner, bytes, interrupt, signal })
      try {
        return await this.#decodeWith('heavy', task, limits, (decoder) => {
          void interrupted.promise.then(() => decoder.kill('preempted'))
        })
      } catch (error) {
        if (reasonOf(error) !== 'preempted') throw error
      } finally {
        leave()
      }
    }
  }

  #decodeWith(
    kind: DecoderKind,
    { image, rule, target, owner = '', signal }: DecodeTask,
    limits: DecodeLimits,
    onStart?: (decoder: RunningDecoder) => void,
  ): Promise<PoolDecoded> {
    const { onDecoded, onLost } = this.#options
    return this.#groups[kind].run(
      owner,
      async (decoder) => {
        onStart?.(decoder)
        const startedAt = performance.now()
        try {
          const decoded = await decoder.decode({ image, rule, target }, limits)
          const ms = performance.now() - startedAt
          onDecoded?.(kind, ms, decoded.cpuMs)
          return { ...decoded, ms }
        } catch (error) {
          const reason = reasonOf(error)
          if (reason) onLost?.(kind, reason)
          throw error
        }
      },
      signal,
    )
  }

  #lossesOf(owner: string): number {
    const losses = this.#losses.get(owner)
    return losses && losses.until > this.#now() ? losses.count : 0
  }

  #countLoss(owner: string): void {
    const count = this.#lossesOf(owner) + 1
    this.#losses.delete(owner)
    this.#losses.set(owner, { count, until: this.#now() + suspectMs })
    if (this.#losses.size > maxSuspects) this.#losses.delete(this.#losses.keys().next().value!)
  }

  #now(): number {
    return (this.#options.now ?? Date.now)()
  }

  /** What the caller gets for a lost decoder. */
  #refusal(lost: DecoderLostError, owner: string): TurbineError {
    const { reason } = lost
    if (reason === 'unavailable')
      return retryLater(
        'decoder_unavailable',
        'No decoder could be started, or it got no time. Retry the request.',
        {
          cause: lost,
        },
      )
    this.#countLoss(owner)
    return refusalOf(reason, lost)
  }
}

const isQuick = (work: ImageWork | undefined) =>
  !work || (work.memoryBytes <= quickBytes && work.cpuMs <= quickCpuMs)

/** Limits of an image; an unreadable header gets those of a quick image. */
function limitsOf(work: ImageWork | undefined, rule: PictureRule, timeoutMs: number): DecodeLimits {
  const unknown = { memoryBytes: quickBytes, libraryBytes: 0, cpuMs: quickCpuMs }
  const { memoryBytes, libraryBytes, cpuMs } = work ?? unknown
  const limit = Math.min(timeoutMs, Math.max(leastCpuMs, cpuSlack * cpuMs))
  // Resampled in steps, each of which has its pixels.
  const pictures = rule.kind === 'squash' ? 0 : 4 * mostPictureBytes(rule)
  return withCpuMs({ memoryBytes: memoryBytes + libraryBytes + pictures + spareBytes }, limit)
}

const withCpuMs = (limits: Omit<DecodeLimits, 'cpuMs' | 'wallMs'>, cpuMs: number): DecodeLimits => ({
  ...limits,
  cpuMs,
  wallMs: wallSlack * cpuMs,
})

const reasonOf = (error: unknown) => (error instanceof DecoderLostError ? error.reason : undefined)

/** @throws any error that is not the loss of a decoder */
function lossOf(error: unknown): DecoderLostError {
  if (error instanceof DecoderLostError) return error
  throw error
}

function refusalOf(reason: LossReason, cause: unknown): ImageError {
  const complex = (message: string) =>
    new ImageError('image_too_complex', message, { status: 413, param: 'image', cause })
  if (reason === 'time')
    return complex(
      'Decoding the image takes too long (TURBINE_DECODE_TIMEOUT_MS at most). Save it as a baseline JPEG.',
    )
  if (reason === 'memory')
    return complex('Decoding the image takes more memory than its header says. Save it as a baseline JPEG.')
  const message = 'The image ends its decoder. Save it again, as a baseline JPEG.'
  return new ImageError('image_invalid', message, { param: 'image', cause })
}
