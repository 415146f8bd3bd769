import { availableParallelism } from 'node:os'
import pLimit, { type LimitFunction } from 'p-limit'
import { TurbineError } from '../edge/contract/errors.ts'
import { BatchRunner, type BatchRunnerOptions } from './batch-runner.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'
import { calibrate } from './engine/calibrate.ts'
import { DevicePool } from './engine/device-pool.ts'
import type { DeviceTarget } from './engine/devices.ts'
import { PixelBuffers, type PixelSlot } from './engine/pixel-buffers.ts'
import { preprocess } from './engine/preprocess.ts'
import { type CaptionTokenizer, loadTokenizer } from './engine/tokenizer.ts'
import type { CaptionModel, GraphOptions } from './models/model.ts'
import { CostModel } from './scheduling/cost-model.ts'
import type { Level } from './scheduling/level.ts'

export interface PipelineOptions
  extends Pick<BatchRunnerOptions, 'queueLimit' | 'interactiveTargetMs' | 'onBatch'> {
  model: CaptionModel
  devices: DeviceTarget[]
  /** Threads that one operator is split over; default: all cores on the CPU. */
  intraOpThreads?: number
  /** Batch sizes, ascending. */
  buckets: number[]
  /** How the graph is built, e.g. `{ float16: true }`. */
  graph?: GraphOptions
  /** Told when a device's thread died; it restarts by itself. */
  onCrash?(error: Error): void
  /** Unix ms. */
  now?(): number
}

/** Calibration takes about this long at start, ms; a run that has begun is finished. */
const calibrationMs = 1500

/**
 * Images in, captions out, on one machine: decoding ahead of the devices, the queue of two lanes, and for each free
 * device the batch and the prune level that the load asks for.
 *
 * @example
 * const pipeline = await Pipeline.start({ model, devices, buckets: [1, 2, 4, 8], queueLimit: 1000, interactiveTargetMs: 500 })
 * const { caption, pruneRatio } = await pipeline.caption({ image, lane: 'interactive' })
 */
export class Pipeline implements Captioner {
  readonly model: string
  readonly concurrency: number
  readonly costs: CostModel
  /** What waits and runs. */
  readonly runner: BatchRunner
  readonly #model: CaptionModel
  readonly #now: () => number
  readonly #pool: DevicePool
  readonly #tokenizer: CaptionTokenizer
  readonly #images: PixelBuffers
  readonly #decoding: LimitFunction
  readonly #open = new Set<Promise<unknown>>()
  #closing = false

  private constructor(
    options: PipelineOptions,
    pool: DevicePool,
    tokenizer: CaptionTokenizer,
    costs: CostModel,
  ) {
    const { model, devices, now = Date.now } = options
    this.model = model.id
    this.concurrency = 2 * pool.maxBatch * pool.devices.length
    this.costs = costs
    this.runner = new BatchRunner({ ...options, pool, costs, now })
    this.#model = model
    this.#now = now
    this.#pool = pool
    this.#tokenizer = tokenizer
    this.#images = new PixelBuffers(model.image, 1)
    this.#decoding = pLimit(decodesAtOnce(devices))
  }

  /**
   * Opens the model on every device and measures what a run costs.
   * @throws ModelFolderError, DeviceOpenError
   */
  static async start(options: PipelineOptions): Promise<Pipeline> {
    const { model, devices, intraOpThreads, buckets, graph, onCrash } = options
    const tokenizer = await loadTokenizer(model.folder)
    const pool = await DevicePool.start({ model, devices, intraOpThreads, buckets, graph, onCrash })
    const samples = await calibrate(pool.devices[0]!, { model, buckets, budgetMs: calibrationMs })
    const levels: Level[] = model.levels.map(({ pruneRatio, flopShare, quality }) => ({
      pruneRatio,
      relativeCost: flopShare,
      exact: quality?.exact,
    }))
    return new Pipeline(options, pool, tokenizer, new CostModel({ levels, buckets, samples }))
  }

  /** Names of the devices that serve. */
  get devices(): string[] {
    return this.#pool.devices.map(({ name }) => name)
  }

  /**
   * Captions one image.
   * @throws TurbineError `image_*`, `prompt_too_long`, `level_unknown`, `queue_full`, `shutting_down`,
   * `inference_failed`; the signal's reason when it aborts.
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

  /** Lets every image that was taken finish, then frees the devices. */
  async close(): Promise<void> {
    this.#closing = true
    while (this.#open.size > 0) await Promise.all(this.#open)
    await this.#pool.close()
  }

  async #caption(task: CaptionTask): Promise<Captioned> {
    const { image, maxPrune = 1, acceptedAt = this.#now(), level, signal } = task
    signal?.throwIfAborted()
    this.#checkLevel(level)
    const prompt = this.#promptIds(task.prompt)
    const slot = await this.#decoding(() => this.#decode(image))
    try {
      signal?.throwIfAborted()
      const run = await this.runner.run({ ...task, slot, prompt, maxPrune, acceptedAt })
      const { pruneRatio, tokensOut } = this.#model.levels[run.level]!
      return {
        caption: this.#tokenizer.decode(run.ids),
        outputTokens: run.ids.length,
        pruneLevel: run.level,
        pruneRatio,
        tokensIn: this.#model.encoder.tokens,
        tokensOut,
        queueMs: run.queueMs,
        inferenceMs: Math.round(10 * run.inferenceMs) / 10,
        model: this.model,
      }
    } finally {
      slot.release()
    }
  }

  async #decode(image: Uint8Array): Promise<PixelSlot> {
    const slot = this.#images.take()
    try {
      await preprocess(image, this.#model.image, slot.pixels)
      return slot
    } catch (error) {
      slot.release()
      throw error
    }
  }

  #checkLevel(level: number | undefined): void {
    const { length } = this.#model.levels
    if (level === undefined || level < length) return
    throw new TurbineError(`Level ${level} is unknown; ${this.model} has the levels 0 to ${length - 1}.`, {
      status: 400,
      code: 'level_unknown',
      param: 'level',
    })
  }

  /** Start id, then the prompt's ids. */
  #promptIds(prompt: string | undefined): number[] {
    const { startId, maxPromptLength } = this.#model
    const ids = prompt ? this.#tokenizer.encodePrompt(prompt) : []
    if (ids.length > maxPromptLength)
      throw new TurbineError(
        `The prompt has ${ids.length} tokens; this model takes at most ${maxPromptLength}. Shorten it.`,
        { status: 400, code: 'prompt_too_long', param: 'prompt' },
      )
    return [startId, ...ids]
  }
}

/** Images that are decoded side by side: on a CPU the model needs most of the cores for itself. */
function decodesAtOnce(devices: DeviceTarget[]): number {
  const cores = availableParallelism()
  return devices.some(({ provider }) => provider === 'cpu') ? Math.max(1, cores >> 1) : cores
}

const shuttingDown = () =>
  new TurbineError('The service is shutting down. Send the request again.', {
    status: 503,
    code: 'shutting_down',
    retryAfterSeconds: 1,
  })
