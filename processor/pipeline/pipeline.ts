import { readFile } from 'node:fs/promises'
import { invalid, shuttingDown } from '../../edge/contract/errors.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { addSpan } from '../../infra/telemetry/tracing.ts'
import {
  DecoderPool,
  type DecoderPoolOptions,
  defaultDecoders,
  planDecoders,
} from '../decoding/decoder-pool.ts'
import type { CostCache } from '../engine/cost-cache.ts'
import { DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { PixelBuffers, type PixelSlot } from '../engine/pixel-buffers.ts'
import { preprocess } from '../engine/preprocess.ts'
import { type CaptionTokenizer, loadTokenizer } from '../engine/tokenizer.ts'
import type { CaptionModel, GraphOptions } from '../models/model.ts'
import type { CostModel } from '../scheduling/cost-model.ts'
import type { Backlog, Lane, Level } from '../scheduling/level.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'
import { endCaption } from './end-caption.ts'
import { Executor, type ExecutorOptions } from './executor.ts'
import { seedCosts } from './seed-costs.ts'

export interface PipelineOptions
  extends Pick<ExecutorOptions, 'queueLimit' | 'interactiveTargetMs' | 'upstream' | 'onBatch'>,
    Pick<DecoderPoolOptions, 'onDecoded' | 'onLost' | 'maxPixels' | 'truncated'> {
  model: CaptionModel
  devices: DeviceTarget[]
  /** Threads per operator; default: all cores on the CPU. */
  intraOpThreads?: number
  /** Batch sizes, ascending. */
  buckets: number[]
  /** Pins every image to this prune level, within what the image allows; default: the load decides. */
  level?: number
  /** Run times measured at earlier starts; default: none. */
  costCache?: CostCache
  /** Decoders of each lane; default: half of the cores where the model runs on them, else all. */
  decoders?: number
  /** Maximum CPU time of decoding an image, ms. */
  decodeTimeoutMs?: number
  /** Memory for images that take much of it, bytes. Default: by the machine's. */
  decodeBytes?: number
  /** Graph options, e.g. `{ float16: true }`. */
  graph?: GraphOptions
  /** Called when the measured run times could not be stored. */
  onCacheError?(error: unknown): void
  /** Called when a device's thread crashed; it restarts by itself. */
  onCrash?(error: Error): void
  /** Unix ms. */
  now?(): number
}

/** As the setting's default. */
const defaultDecodeTimeoutMs = 10_000

/**
 * Images in, captions out, on one machine: decodes ahead of the devices, queues in two lanes, and runs on each free device
 * the batch and prune level that the load requires.
 *
 * @example
 * const pipeline = await Pipeline.start({ model, devices, buckets: [1, 2, 4, 8], queueLimit: 1000, interactiveTargetMs: 500 })
 * const { caption, turbine } = await pipeline.caption({ image, lane: 'interactive' })
 */
export class Pipeline implements Captioner {
  readonly model: string
  readonly concurrency: number
  readonly costs: CostModel
  readonly executor: Executor
  readonly decoders: DecoderPool
  readonly #model: CaptionModel
  readonly #now: () => number
  readonly #pool: DevicePool
  readonly #tokenizer: CaptionTokenizer
  readonly #images: PixelBuffers
  readonly #open = new Set<Promise<unknown>>()
  readonly #level: number | undefined
  /** Deadlines of interactive images that are not decoded yet, unix ms. */
  readonly #undecoded = new Map<symbol, number>()
  readonly #targetMs: number
  #closing = false

  private constructor(
    options: PipelineOptions,
    pool: DevicePool,
    tokenizer: CaptionTokenizer,
    costs: CostModel,
  ) {
    const { model, level, interactiveTargetMs, upstream, now = Date.now } = options
    const { decodeTimeoutMs = defaultDecodeTimeoutMs, decodeBytes, onDecoded, onLost } = options
    const { maxPixels, truncated } = options
    this.model = model.id
    this.concurrency = 2 * pool.maxBatch * pool.devices.length
    this.costs = costs
    this.#level = level
    this.#targetMs = interactiveTargetMs
    this.executor = new Executor({
      ...options,
      pool,
      costs,
      now,
      upstream: (lane, at) => [...this.#beingDecoded(lane), ...(upstream?.(lane, at) ?? [])],
    })
    this.#model = model
    this.#now = now
    this.#pool = pool
    this.#tokenizer = tokenizer
    this.#images = new PixelBuffers(model.image, 1)
    this.decoders = new DecoderPool({
      image: model.image,
      budget: planDecoders(costs.decodersAtOnce, undefined, decodeBytes),
      timeoutMs: decodeTimeoutMs,
      maxPixels,
      truncated,
      onDecoded: (kind, ms) => {
        costs.observeDecoding(ms)
        onDecoded?.(kind, ms)
      },
      onLost,
    })
  }

  /**
   * Opens the model on every device and measures run times.
   * @throws ModelFolderError, DeviceOpenError, TurbineError `level_unknown`
   */
  static async start(options: PipelineOptions): Promise<Pipeline> {
    const { model, devices, intraOpThreads, buckets, graph, level, costCache, onCacheError, onCrash } =
      options
    const { decoders, interactiveTargetMs } = options
    checkLevel(model, level)
    const tokenizer = await loadTokenizer(model.folder)
    const pool = await DevicePool.start({ model, devices, intraOpThreads, buckets, graph, onCrash })
    const levels: Level[] = model.levels.map(({ pruneRatio, flopShare, quality }) => ({
      pruneRatio,
      relativeCost: flopShare,
      exact: quality?.exact,
    }))
    const pixels = new Uint8Array(model.image.height * model.image.width * 3)
    await preprocess(await readFile(bundledPictures[0]!), model.image, pixels)
    const onCpu = devices.some(({ provider }) => provider === 'cpu')
    const decodersAtOnce = planDecoders(decoders ?? defaultDecoders(onCpu)).perLane
    const costs = await seedCosts(pool.devices[0]!, {
      ...{ model, buckets, pixels, levels, decodersAtOnce },
      gpu: devices[0]!.provider !== 'cpu',
      ...{ cache: costCache, onCacheError },
    })
    const pipeline = new Pipeline(options, pool, tokenizer, costs)
    // Where no interactive images come, as in a run over files, those of batches do.
    pipeline.decoders.warm(Number.isFinite(interactiveTargetMs) ? 'interactive' : 'batch')
    return pipeline
  }

  /** Images per second of all devices together, unpruned. */
  get throughput(): number {
    return this.costs.throughput(0) * this.#pool.devices.length
  }

  get devices(): string[] {
    return this.#pool.devices.map(({ name }) => name)
  }

  /**
   * Captions one image.
   * @throws TurbineError `image_*`, `prompt_too_long`, `level_unknown`, `queue_full`, `shutting_down`,
   * `inference_failed`; the signal's reason when it aborts
   */
  caption(task: CaptionTask): Promise<Captioned> {
    if (this.#closing) return Promise.reject(shuttingDown())
    const captioned = this.#caption(task)
    const settled = captioned.then(
      () => undefined,
      () => undefined,
    )
    this.#open.add(settled)
    void settled.finally(() => this.#open.delete(settled))
    return captioned
  }

  /** Finishes accepted images, then frees the devices. */
  async close(): Promise<void> {
    this.#closing = true
    while (this.#open.size > 0) await Promise.all(this.#open)
    await Promise.all([this.#pool.close(), this.decoders.close()])
  }

  async #caption(task: CaptionTask): Promise<Captioned> {
    const { maxPrune = 1, acceptedAt = this.#now(), level = this.#level, signal } = task
    signal?.throwIfAborted()
    checkLevel(this.#model, level)
    const prompt = this.#promptIds(task.prompt)
    const enteredAt = this.#now()
    const { slot, warnings } = await this.#decode(task)
    try {
      const queuedAt = this.#now()
      signal?.throwIfAborted()
      const deadline = task.idle ? Number.POSITIVE_INFINITY : task.deadline
      const queued = { lane: task.lane, enqueuedAt: acceptedAt, deadline, maxPrune, level }
      const { maxTokens, stop } = task
      const run = await this.executor.run(queued, { slot, prompt, maxTokens }, signal)
      const caption = endCaption(run.ids, {
        ...this.#model,
        promptLength: prompt.length,
        stop,
        tokenizer: this.#tokenizer,
      })
      const { pruneRatio, tokensOut } = this.#model.levels[run.level]!
      if (task.lane === 'interactive') {
        const startedAt = Math.max(queuedAt, acceptedAt + run.queueMs)
        addSpan('decode', enteredAt, queuedAt)
        addSpan('queue', queuedAt, startedAt)
        addSpan('inference', startedAt, startedAt + run.inferenceMs, { 'turbine.prune_level': run.level })
      }
      const turbine = {
        prune_level: run.level,
        prune_ratio: pruneRatio,
        tokens_in: this.#model.encoder.tokens,
        tokens_out: tokensOut,
        output_tokens: caption.tokens,
        queue_ms: run.queueMs,
        inference_ms: Math.round(10 * run.inferenceMs) / 10,
        model: this.model,
        ...(warnings.length > 0 ? { warnings } : {}),
      }
      return { caption: caption.text, finish_reason: caption.finishReason, turbine }
    } finally {
      slot.release()
    }
  }

  /** Interactive images being decoded. Planners publish those of batches. */
  #beingDecoded(lane: Lane): Backlog[] {
    if (lane === 'batch' || this.#undecoded.size === 0) return []
    const deadline = Math.max(...this.#undecoded.values())
    return [{ deadline, images: this.#undecoded.size, maxLevel: this.costs.levels.length - 1 }]
  }

  async #decode({ image, lane, owner, deadline, signal }: CaptionTask) {
    let slot: PixelSlot | undefined
    const target = () => {
      slot ??= this.#images.take()
      return slot.pixels
    }
    const waiting = Symbol()
    if (lane === 'interactive') this.#undecoded.set(waiting, deadline ?? this.#now() + this.#targetMs)
    try {
      const { warnings } = await this.decoders.decode({ image, target, lane, owner, signal })
      return { slot: slot!, warnings }
    } catch (error) {
      slot?.release()
      throw error
    } finally {
      this.#undecoded.delete(waiting)
    }
  }

  /** Start id, then the prompt's ids. */
  #promptIds(prompt: string | undefined): number[] {
    const { startId, maxPromptLength } = this.#model
    const ids = prompt ? this.#tokenizer.encodePrompt(prompt) : []
    if (ids.length > maxPromptLength)
      throw invalid(
        'prompt_too_long',
        `The prompt has ${ids.length} tokens; this model accepts at most ${maxPromptLength}. Shorten it.`,
        'prompt',
      )
    return [startId, ...ids]
  }
}

/** @throws TurbineError `level_unknown` */
function checkLevel({ id, levels: { length } }: CaptionModel, level: number | undefined): void {
  if (level !== undefined && level >= length)
    throw invalid(
      'level_unknown',
      `Level ${level} is unknown; ${id} has the levels 0 to ${length - 1}.`,
      'level',
    )
}
