import { readFile } from 'node:fs/promises'
import type { CaptionText } from '../../edge/contract/caption.ts'
import { ImageError, invalid, shuttingDown } from '../../edge/contract/errors.ts'
import type { Capabilities } from '../../edge/contract/model.ts'
import { splitCores } from '../../infra/cores.ts'
import type { Reservation } from '../../infra/fair-budget.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { addSpan } from '../../infra/telemetry/tracing.ts'
import { DecoderPool, type DecoderPoolOptions, planDecoders } from '../decoding/decoder-pool.ts'
import { captionIds, measuredRow, type RunPicture, type RunRow } from '../engine/batch.ts'
import type { CostCache } from '../engine/cost-cache.ts'
import { type DeviceGraphOptions, DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { PixelBuffers, type PixelSlot } from '../engine/pixel-buffers.ts'
import { readPicture } from '../engine/read-picture.ts'
import { type CaptionModel, pictureTokens } from '../models/model.ts'
import { limitPixels, type PictureShape, pictureBytes } from '../models/pictures.ts'
import type { CostModel } from '../scheduling/cost-model.ts'
import type { Backlog, Lane, Level } from '../scheduling/level.ts'
import { askedByDefault, capabilitiesOf } from './capabilities.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'
import { Executor, type ExecutorOptions, leave } from './executor.ts'
import { estimatedBytes, type PictureAsk, PictureMemory, pictureMemory } from './picture-memory.ts'
import { seedCosts } from './seed-costs.ts'
import { checkImages, taskRow } from './task-row.ts'
import { type CaptionRules, endCaption, growingCaption } from './text/end-caption.ts'

export interface PipelineOptions
  extends Pick<
      ExecutorOptions,
      'queueLimit' | 'interactiveTargetMs' | 'upstream' | 'turns' | 'joining' | 'onBatch' | 'onSteps'
    >,
    Pick<DecoderPoolOptions, 'onDecoded' | 'onLost' | 'maxPixels' | 'truncated' | 'decode'> {
  model: CaptionModel
  devices: DeviceTarget[]
  /** Threads per operator; default: all cores on the CPU. */
  intraOpThreads?: number
  /** What requests that ask nothing ask; default: nothing. */
  prompt?: string
  /** Batch sizes, ascending. */
  buckets: number[]
  /** Pins every image to this prune level, within what the image allows; default: the load decides. */
  level?: number
  /** Run times measured at earlier starts; default: none. */
  costCache?: CostCache
  /** Decoders, which pipelines can share, and which whoever made them ends. Default: its own, by the three options below. */
  decoders?: DecoderPool
  /** Decoders of each lane; default: half of the cores where the model runs on them, else all. */
  decodersAtOnce?: number
  /** Maximum CPU time of decoding an image, ms. */
  decodeTimeoutMs?: number
  /** Memory for images that take much of it, bytes. Default: by the machine's. */
  decodeBytes?: number
  /** Memory for decoded pictures that wait or run, which pipelines can share. Default: its own, by the machine's. */
  pictures?: PictureMemory
  /** Graph options, e.g. `{ float16: true }`. */
  graph?: DeviceGraphOptions
  /** What it computes in, as it is shown. Default: float32. */
  precision?: string
  /** What is done with captions. Default: those that repeat themselves are ended, of models that follow text. */
  rules?: CaptionRules
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
  readonly can: Capabilities
  readonly byDefault: CaptionText | undefined
  readonly unhonoured: readonly string[] | undefined
  readonly concurrency: number
  /** What it computes in, as it is shown. */
  readonly precision: string
  readonly costs: CostModel
  readonly executor: Executor
  readonly decoders: DecoderPool
  readonly pictures: PictureMemory
  readonly #model: CaptionModel
  readonly #now: () => number
  readonly #pool: DevicePool
  readonly #buffers = new PixelBuffers()
  readonly #open = new Set<Promise<unknown>>()
  readonly #level: number | undefined
  /** Interactive images that are not decoded yet, and their deadlines, unix ms. */
  readonly #undecoded = new Set<{ deadline: number; images: number }>()
  /** Captions whose pictures wait for memory. */
  readonly #waiting: Record<Lane, number> = { interactive: 0, batch: 0 }
  readonly #targetMs: number
  readonly #rules: CaptionRules
  readonly #ownDecoders: boolean
  #closing = false

  private constructor(
    options: PipelineOptions,
    { pool, costs, measured }: { pool: DevicePool; costs: CostModel; measured: RunRow },
  ) {
    const { model, level, interactiveTargetMs, upstream, now = Date.now } = options
    const { decoders, decodeTimeoutMs = defaultDecodeTimeoutMs, decodeBytes } = options
    this.model = model.id
    this.precision = options.precision ?? 'float32'
    this.can = capabilitiesOf(model)
    this.byDefault = askedByDefault({ id: model.id, can: this.can }, options.prompt)
    this.unhonoured = model.unhonoured
    this.concurrency = 2 * pool.maxBatch * pool.devices.length
    this.costs = costs
    this.#level = level
    this.#targetMs = interactiveTargetMs
    this.#rules = { endLoops: model.follows !== 'none', ...options.rules }
    this.executor = new Executor({
      ...options,
      pool,
      costs,
      measured,
      now,
      upstream: (lane, at) => [...this.#beingDecoded(lane), ...(upstream?.(lane, at) ?? [])],
    })
    this.pictures = options.pictures ?? new PictureMemory(pictureMemory(0))
    this.#model = model
    this.#now = now
    this.#pool = pool
    this.#ownDecoders = decoders === undefined
    this.decoders =
      decoders ??
      new DecoderPool({
        ...options,
        budget: planDecoders(costs.decodersAtOnce, undefined, decodeBytes),
        timeoutMs: decodeTimeoutMs,
      })
  }

  /**
   * Opens the model on every device and measures run times.
   * @throws ModelFolderError, DeviceOpenError, TurbineError `level_unknown`
   */
  static async start(options: PipelineOptions): Promise<Pipeline> {
    const { model, devices, intraOpThreads, buckets, graph, level, costCache, onCacheError, onCrash } =
      options
    const { decoders, decodersAtOnce, interactiveTargetMs } = options
    checkLevel(model, level)
    askedByDefault({ id: model.id, can: capabilitiesOf(model) }, options.prompt)
    const pool = await DevicePool.start({ model, devices, intraOpThreads, buckets, graph, onCrash })
    const levels: Level[] = model.levels.map(({ pruneRatio, flopShare, quality }) => ({
      pruneRatio,
      relativeCost: flopShare,
      exact: quality && relativeExact(quality.exact, model.levels[0]!.quality?.exact),
    }))
    const row = await measuredRow(
      model,
      await readPicture(await readFile(bundledPictures[0]!), model.picture),
    )
    const onCpu = devices.some(({ provider }) => provider === 'cpu')
    const budget = decoders?.budget ?? planDecoders(splitCores({ onCpu, decoders: decodersAtOnce }).decoders)
    const costs = await seedCosts(pool.devices[0]!, {
      ...{ model, buckets, row, levels, decodersAtOnce: budget.perLane },
      gpu: devices[0]!.provider !== 'cpu',
      ...{ cache: costCache, onCacheError },
    })
    const pipeline = new Pipeline(options, { pool, costs, measured: row })
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
   * Makes one caption.
   * @throws TurbineError `image_*`, `prompt_too_long`, `too_many_images`, `task_unknown`, `level_unknown`, `queue_full`, `shutting_down`,
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
    await Promise.all([this.#pool.close(), this.#ownDecoders && this.decoders.close()])
  }

  async #caption(task: CaptionTask): Promise<Captioned> {
    const { maxPrune = 1, acceptedAt = this.#now(), level = this.#level, signal } = task
    signal?.throwIfAborted()
    checkLevel(this.#model, level)
    const { images = [task.image] } = task
    checkImages(this.#model, images)
    const enteredAt = this.#now()
    const { pictures, warnings, release } = await this.#decodeAll(task, images)
    try {
      const queuedAt = this.#now()
      signal?.throwIfAborted()
      const deadline = task.idle ? Number.POSITIVE_INFINITY : task.deadline
      const queued = { lane: task.lane, enqueuedAt: acceptedAt, deadline, maxPrune, level }
      const row = await taskRow(this.#model, task, pictures)
      const rules = {
        ...this.#rules,
        begun: captionIds(row.prompt, { ids: [] }).length,
        stop: task.stop,
        decode: this.#model.decode,
      }
      const grow = growingCaption(rules)
      const onIds = (ids: number[]) => {
        const grown = grow(captionIds(row.prompt, { ids }))
        if (grown.isOver) leave(row)
        task.onText?.(grown.text)
      }
      const run = await this.executor.run(queued, { row, onIds }, signal)
      const tagged = run.row.scores && this.#model.describe?.(run.row.scores)
      const caption = tagged
        ? endCaption([], { decode: () => tagged.caption, begun: 0, ended: true, stop: task.stop })
        : endCaption(captionIds(row.prompt, run.row), { ...rules, ended: run.row.ended })
      const { tokensIn, tokensOut } = pictureTokens(
        this.#model,
        pictures.map(({ shape }) => shape),
        run.level,
      )
      if (task.lane === 'interactive') {
        const startedAt = Math.max(queuedAt, acceptedAt + run.queueMs)
        addSpan('decode', enteredAt, queuedAt)
        addSpan('queue', queuedAt, startedAt)
        addSpan('inference', startedAt, startedAt + run.inferenceMs, { 'turbine.prune_level': run.level })
      }
      const turbine = {
        prune_level: run.level,
        prune_ratio: this.#model.levels[run.level]!.pruneRatio,
        tokens_in: tokensIn,
        tokens_out: tokensOut,
        ...(row.prompt.places.length > 0 && { prompt_tokens: row.prompt.ids.length }),
        output_tokens: caption.tokens,
        queue_ms: run.queueMs,
        inference_ms: Math.round(10 * run.inferenceMs) / 10,
        model: this.model,
        ...(tagged && { tags: [...tagged.tags] }),
        ...(caption.repeated && { finish_reason: 'repetition' as const }),
        ...(warnings.length > 0 && { warnings }),
      }
      return { caption: caption.text, finish_reason: caption.finishReason, turbine }
    } finally {
      release()
    }
  }

  /** Decodes all images of a task; of several, those that are left are lost with the first that fails. */
  async #decodeAll(task: CaptionTask, images: readonly Uint8Array[]) {
    const { lane, deadline = this.#now() + this.#targetMs } = task
    const undecoded = { deadline, images: images.length }
    if (lane === 'interactive') this.#undecoded.add(undecoded)
    try {
      return await this.#decodeWithin(task, images)
    } finally {
      this.#undecoded.delete(undecoded)
    }
  }

  /** Pixels that wait for a device are bounded, so an image waits for its before it is decoded. */
  async #decodeWithin(task: CaptionTask, images: readonly Uint8Array[]) {
    const { lane, owner, signal, maxPixels } = task
    this.executor.assertRoom(lane, this.#waiting[lane])
    const rule = limitPixels(this.#model.picture, maxPixels)
    const sizes = images.map((image) => estimatedBytes(rule, image))
    const bytes = sizes.reduce((sum, size) => sum + size, 0)
    const ask = { lane, owner, bytes, signal }
    const held = this.pictures.tryReserve(ask) ?? (await this.#memoryFor(ask))
    const settled = await Promise.allSettled(
      images.map((image, index) => this.#decode({ ...task, image }, { held, expected: sizes[index]! })),
    )
    const decoded = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    const release = () => {
      for (const each of decoded) each.release()
      held.release()
    }
    const failed = settled.find((each) => each.status === 'rejected')
    if (failed) {
      release()
      throw failed.reason
    }
    const pictures = decoded.map(({ pixels, shape }): RunPicture => ({ pixels, shape }))
    return { pictures, warnings: [...new Set(decoded.flatMap(({ warnings }) => warnings))], release }
  }

  async #memoryFor(ask: PictureAsk): Promise<Reservation> {
    this.#waiting[ask.lane]++
    try {
      return await this.pictures.reserve(ask)
    } finally {
      this.#waiting[ask.lane]--
    }
  }

  /** Interactive images being decoded. Planners publish those of batches. */
  #beingDecoded(lane: Lane): Backlog[] {
    if (lane === 'batch' || this.#undecoded.size === 0) return []
    const waiting = [...this.#undecoded]
    const deadline = Math.max(...waiting.map((each) => each.deadline))
    const images = waiting.reduce((sum, each) => sum + each.images, 0)
    return [{ deadline, images, maxLevel: this.costs.levels.length - 1 }]
  }

  async #decode(
    { image, lane, owner, signal, maxPixels }: CaptionTask,
    { held, expected }: { held: Reservation; expected: number },
  ) {
    let slot: PixelSlot | undefined
    const rule = limitPixels(this.#model.picture, maxPixels)
    /** It may be larger than was thought at first. */
    const target = (shape: PictureShape) => {
      const bytes = pictureBytes(rule, shape)
      if (!slot || slot.pixels.length < bytes) {
        slot?.release()
        slot = this.#buffers.take(bytes)
      }
      return slot.pixels.subarray(0, bytes)
    }
    try {
      const { shape, warnings, ms } = await this.decoders.decode({ image, rule, target, lane, owner, signal })
      this.costs.observeDecoding(ms)
      const pixels = target(shape)
      const more = pixels.length - expected
      if (more > 0 && !held.tryGrow(more)) throw largerThanSaid()
      return { pixels, release: slot!.release, shape, warnings }
    } catch (error) {
      slot?.release()
      throw error
    }
  }
}

/** Its size was read from its header, and memory for it is not at hand. */
const largerThanSaid = () =>
  new ImageError(
    'image_invalid',
    'The image is larger than its header says. Save it again, as a baseline JPEG.',
    { param: 'image' },
  )

/** @throws TurbineError `level_unknown` */
function checkLevel({ id, levels: { length } }: CaptionModel, level: number | undefined): void {
  if (level !== undefined && level >= length)
    throw invalid(
      'level_unknown',
      `Level ${level} is unknown; ${id} has the levels 0 to ${length - 1}.`,
      'level',
    )
}

/** Captions of a level that are as those of level 0, which have a cost of their own where they are of int8. */
const relativeExact = (exact: number, unpruned = 1) => exact / Math.max(unpruned, exact)
