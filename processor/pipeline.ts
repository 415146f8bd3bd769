import { randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import pLimit, { type LimitFunction } from 'p-limit'
import { TurbineError } from '../edge/contract/errors.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'
import { calibrate } from './engine/calibrate.ts'
import type { Device } from './engine/device.ts'
import { DevicePool } from './engine/device-pool.ts'
import type { DeviceTarget } from './engine/devices.ts'
import { PixelBuffers, type PixelSlot } from './engine/pixel-buffers.ts'
import { preprocess } from './engine/preprocess.ts'
import { type CaptionTokenizer, loadTokenizer } from './engine/tokenizer.ts'
import type { CaptionModel, GraphOptions } from './models/model.ts'
import { type Admission, admission } from './scheduling/admission.ts'
import { type Batch, Batcher } from './scheduling/batcher.ts'
import { CostModel } from './scheduling/cost-model.ts'
import type { Lane } from './scheduling/lane.ts'
import type { Level } from './scheduling/level.ts'
import { ImageQueue, type QueuedImage, QueueFullError } from './scheduling/queue.ts'

export interface PipelineOptions {
  model: CaptionModel
  devices: DeviceTarget[]
  /** Threads that one operator is split over; default: all cores on the CPU. */
  intraOpThreads?: number
  /** Batch sizes, ascending. */
  buckets: number[]
  /** How the graph is built, e.g. `{ float16: true }`. */
  graph?: GraphOptions
  /** Images that wait in each lane at most. */
  queueLimit: number
  /** Time within which an interactive image should be done, ms; Infinity when nobody waits. */
  interactiveTargetMs: number
  /** Told of every run; for metrics. */
  onBatch?(run: BatchReport): void
  /** Told when a device's thread died; it restarts by itself. */
  onCrash?(error: Error): void
  /** Unix ms. */
  now?(): number
}

/** What one run on a device was. */
export interface BatchReport {
  device: string
  lane: Lane
  /** Images captioned; the rest of the bucket was padding. */
  images: number
  bucket: number
  level: number
  pruneRatio: number
  predictedMs: number
  inferenceMs: number
}

/** What an image carries through the queue. */
interface Work {
  /** Holds the decoded image, `uint8 [H, W, 3]`. */
  slot: PixelSlot
  /** Start id and prompt. */
  prompt: number[]
  attempts: number
  resolve(captioned: Captioned): void
  reject(error: unknown): void
}

/** Runs of an image's batch that may fail before the image does. */
const maxAttempts = 3
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
  readonly #options: PipelineOptions
  readonly #now: () => number
  readonly #pool: DevicePool
  readonly #tokenizer: CaptionTokenizer
  /** Decoded images that wait. */
  readonly #images: PixelBuffers
  /** Batches that run. */
  readonly #batches: PixelBuffers
  readonly #decoding: LimitFunction
  readonly #queue: ImageQueue<Work>
  readonly #batcher: Batcher<Work>
  readonly #idle: Set<Device>
  readonly #open = new Set<Promise<unknown>>()
  #closing = false

  private constructor(
    options: PipelineOptions,
    pool: DevicePool,
    tokenizer: CaptionTokenizer,
    costs: CostModel,
  ) {
    const { model, queueLimit, interactiveTargetMs } = options
    this.model = model.id
    this.concurrency = 2 * pool.maxBatch * pool.devices.length
    this.costs = costs
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#pool = pool
    this.#tokenizer = tokenizer
    this.#images = new PixelBuffers(model.image, 1)
    this.#batches = new PixelBuffers(model.image, pool.maxBatch)
    this.#decoding = pLimit(decodesAtOnce(options.devices))
    this.#queue = new ImageQueue({
      levels: costs.levels,
      limits: { interactive: queueLimit, batch: queueLimit },
    })
    this.#batcher = new Batcher({
      queue: this.#queue,
      costs,
      devices: pool.devices.length,
      interactiveTargetMs,
    })
    this.#idle = new Set(pool.devices)
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
    const levels: Level[] = model.levels.map(({ pruneRatio, flopShare }) => ({
      pruneRatio,
      relativeCost: flopShare,
    }))
    return new Pipeline(options, pool, tokenizer, new CostModel({ levels, buckets, samples }))
  }

  /** Names of the devices that serve. */
  get devices(): string[] {
    return this.#pool.devices.map(({ name }) => name)
  }

  /** Images that wait for a device. */
  waiting(lane?: Lane): number {
    return this.#queue.size(lane)
  }

  /** The prune level that the lane's load asked for last. */
  level(lane: Lane): number {
    return this.#batcher.level(lane)
  }

  /** Images per second that have come into the lane of late. */
  arrivalRate(lane: Lane): number {
    return this.#queue.arrivalRate(lane, this.#now())
  }

  /** Whether one more interactive image can be taken, and if not, when to repeat. */
  admission(deadline?: number): Admission {
    return admission(
      {
        queue: this.#queue,
        costs: this.costs,
        devices: this.#pool.devices.length,
        interactiveTargetMs: this.#options.interactiveTargetMs,
      },
      { deadline },
      this.#now(),
    )
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
    const { maxPrune = 1, acceptedAt = this.#now(), level, signal } = task
    signal?.throwIfAborted()
    this.#checkLevel(level)
    const prompt = this.#promptIds(task.prompt)
    const slot = await this.#decoding(() => this.#decode(task.image))
    try {
      signal?.throwIfAborted()
      return await this.#captionPixels(slot, prompt, { ...task, maxPrune, acceptedAt })
    } finally {
      slot.release()
    }
  }

  async #decode(image: Uint8Array): Promise<PixelSlot> {
    const slot = this.#images.take()
    try {
      await preprocess(image, this.#options.model.image, slot.pixels)
      return slot
    } catch (error) {
      slot.release()
      throw error
    }
  }

  async #captionPixels(
    slot: PixelSlot,
    prompt: number[],
    {
      lane,
      maxPrune,
      acceptedAt,
      deadline,
      level,
      signal,
    }: CaptionTask & { maxPrune: number; acceptedAt: number },
  ): Promise<Captioned> {
    const { promise, resolve, reject } = Promise.withResolvers<Captioned>()
    const queued: QueuedImage<Work> = {
      id: randomUUID(),
      lane,
      enqueuedAt: acceptedAt,
      deadline,
      maxPrune,
      level,
      group: String(prompt.length),
      payload: { slot, prompt, attempts: 0, resolve, reject },
    }
    const onAbort = () => {
      if (this.#queue.remove(queued.id)) reject(signal?.reason)
    }
    this.#enqueue(queued)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#feedDevices()
    return promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  /** @throws TurbineError `queue_full` */
  #enqueue(image: QueuedImage<Work>): void {
    try {
      this.#queue.add(image, this.#now())
    } catch (error) {
      if (!(error instanceof QueueFullError)) throw error
      const admission = this.admission()
      throw new TurbineError(error.message, {
        status: 429,
        code: 'queue_full',
        retryAfterSeconds: admission.admitted ? 1 : admission.retryAfterSeconds,
      })
    }
  }

  #checkLevel(level: number | undefined): void {
    const { length } = this.#options.model.levels
    if (level === undefined || level < length) return
    throw new TurbineError(`Level ${level} is unknown; ${this.model} has the levels 0 to ${length - 1}.`, {
      status: 400,
      code: 'level_unknown',
      param: 'level',
    })
  }

  /** Start id, then the prompt's ids. */
  #promptIds(prompt: string | undefined): number[] {
    const { startId, maxPromptLength } = this.#options.model
    const ids = prompt ? this.#tokenizer.encodePrompt(prompt) : []
    if (ids.length > maxPromptLength)
      throw new TurbineError(
        `The prompt has ${ids.length} tokens; this model takes at most ${maxPromptLength}. Shorten it.`,
        { status: 400, code: 'prompt_too_long', param: 'prompt' },
      )
    return [startId, ...ids]
  }

  /** Gives every idle device the best batch that waits. */
  #feedDevices(): void {
    for (const device of this.#idle) {
      const batch = this.#batcher.nextBatch(this.#now())
      if (batch === undefined) return
      this.#idle.delete(device)
      void this.#run(device, batch).finally(() => {
        this.#idle.add(device)
        this.#feedDevices()
      })
    }
  }

  async #run(device: Device, batch: Batch<Work>): Promise<void> {
    const startedAt = this.#now()
    const { images, bucket, level } = batch
    const schedule = this.#options.model.levels[level]!
    const slot = this.#batches.take()
    try {
      images.forEach(({ payload }, i) => {
        slot.row(i).set(payload.slot.pixels)
      })
      const prompt = images.map(({ payload }) => payload.prompt)
      const { ids, inferenceMs } = await device.run({
        pixels: slot.pixels,
        count: images.length,
        prompt,
        schedule,
      })
      this.costs.observe({ bucket, level, ms: inferenceMs })
      this.#report(device, batch, inferenceMs)
      images.forEach((image, i) => {
        image.payload.resolve(this.#captioned(image, ids[i]!, { level, startedAt, inferenceMs }))
      })
    } catch (error) {
      for (const image of images) this.#retry(image, error)
    } finally {
      slot.release()
    }
  }

  #captioned(
    { enqueuedAt }: QueuedImage<Work>,
    ids: number[],
    { level, startedAt, inferenceMs }: { level: number; startedAt: number; inferenceMs: number },
  ): Captioned {
    const { model } = this.#options
    const { pruneRatio, tokensOut } = model.levels[level]!
    return {
      caption: this.#tokenizer.decode(ids),
      pruneLevel: level,
      pruneRatio,
      tokensIn: model.encoder.tokens,
      tokensOut,
      queueMs: Math.max(0, startedAt - enqueuedAt),
      inferenceMs: Math.round(10 * inferenceMs) / 10,
      model: model.id,
    }
  }

  #retry(image: QueuedImage<Work>, cause: unknown): void {
    const { payload } = image
    payload.attempts++
    const retriable = (cause as { retriable?: boolean }).retriable === true
    if (retriable && payload.attempts < maxAttempts && !this.#queue.isFull(image.lane)) {
      this.#queue.add(image, this.#now())
      return
    }
    payload.reject(
      new TurbineError('The model could not run on this image. Send the request again.', {
        status: 503,
        code: 'inference_failed',
        retryAfterSeconds: 1,
        cause,
      }),
    )
  }

  #report(
    device: Device,
    { lane, images, bucket, level, predictedMs }: Batch<Work>,
    inferenceMs: number,
  ): void {
    const { pruneRatio } = this.#options.model.levels[level]!
    this.#options.onBatch?.({
      device: device.name,
      lane,
      images: images.length,
      bucket,
      level,
      pruneRatio,
      predictedMs,
      inferenceMs,
    })
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
