import { randomUUID } from 'node:crypto'
import { retryLater } from '../../edge/contract/errors.ts'
import {
  bucketFor,
  type Joining,
  type PartTime,
  type RowGroup,
  type RowResult,
  type RunRow,
} from '../engine/batch.ts'
import type { Device, DeviceResult } from '../engine/device.ts'
import type { DevicePool } from '../engine/device-pool.ts'
import { hasBeams, isGuarded } from '../models/exported/beam-search.ts'
import type { CaptionModel, RunnerPlan } from '../models/model.ts'
import { type Admission, type AdmissionRequest, admission } from '../scheduling/admission.ts'
import { Batcher, type DeviceBatch, sizeOf } from '../scheduling/batcher.ts'
import type { CostModel } from '../scheduling/cost-model.ts'
import { type DeviceTurn, type DeviceTurns, headLane } from '../scheduling/device-turns.ts'
import type { Backlog, Lane } from '../scheduling/level.ts'
import { ImageQueue, type QueuedImage, QueueFullError } from '../scheduling/queue.ts'
import { type TimeLeft, timeLeft } from '../scheduling/time-left.ts'
import { type Captioned, type RowsBegun, RunningBatch } from './running-batch.ts'

export interface ExecutorOptions {
  model: CaptionModel
  pool: DevicePool
  costs: CostModel
  /** Row that they were measured with. */
  measured: RunRow
  /** Maximum waiting images per lane. */
  queueLimit: number
  /** Latency target of interactive images, ms; Infinity if nobody waits. */
  interactiveTargetMs: number
  /** Prune level of every image, within what it allows; default: the load decides. */
  level?: number
  /** Images that will arrive here and are not in the queue yet. */
  upstream?(lane: Lane, now: number): readonly Backlog[]
  /** Turns at the devices, shared with other models; default: they are this model's alone. */
  turns?: DeviceTurns
  /** Whether rows join batches that run, of models that make ids step by step; default: true. */
  joining?: boolean
  /** Called when all rows that began together have ended; for metrics. */
  onBatch?(run: BatchReport): void
  /** Called after steps of a batch that rows can join; for metrics. */
  onSteps?(steps: StepReport): void
  /** Unix ms. */
  now(): number
}

/** Steps of a batch. */
export interface StepReport {
  device: string
  /** Rows that ran, of the most that can. */
  rows: number
  places: number
  steps: number
}

/** Report on rows that a device began together. */
export interface BatchReport {
  device: string
  /** Whether they joined a batch that ran. */
  joined: boolean
  /** Images captioned, by lane; the rest of the bucket was padding. */
  images: Record<Lane, number>
  /** Images finished after their deadline, by lane. */
  late: Record<Lane, number>
  bucket: number
  level: number
  pruneRatio: number
  /** Share of captions that differ from unpruned ones at this level, 0 to 1; 0 if not measured. */
  qualitySpent: number
  predictedMs: number
  inferenceMs: number
  /** Their start, and the end of the last of them, unix ms. */
  from: number
  to: number
}

/** Result of an image's run. */
export interface RunResult {
  row: RowResult
  level: number
  /** From acceptance to the start of the batch, or to where it joined one. */
  queueMs: number
  /** Time from there on. */
  inferenceMs: number
}

/** Payload of an image in the queue. */
interface Work {
  /** Its pixels must stay until the run is over. */
  row: RunRow
  /** Called with all ids so far, where the model makes them step by step; when a run failed they begin again. */
  onIds?(ids: number[]): void
  attempts: number
  /** Whether it has its result, or is not wanted any more; the batch may go on. */
  done: boolean
  resolve(result: RunResult): void
  reject(error: unknown): void
}

/** Maximum failed runs of an image's batch. */
const maxAttempts = 3
/** A lane without a batch for this time counts as quiet, ms. */
const quietMs = 10_000
/** A batch ends, for what is kept of all its rows, when so many have begun in it. */
const mostRowsOfBatch = 4096
/** Share of the latency target that callers whose captions are made may wait for those that join. */
const holdUpShare = 0.5

/** Keeps the devices of one model busy: a free device gets the best batch of the waiting images at once. */
export class Executor {
  readonly #options: ExecutorOptions
  readonly #queue: ImageQueue<Work>
  readonly #batcher: Batcher<Work>
  readonly #idle: Set<Device>
  readonly #turn: DeviceTurn | undefined
  /** When each device that runs is expected to take more, unix ms. */
  readonly #freeAt = new Map<Device, () => number>()
  /** Whether ids are made step by step, and whether rows join batches that run. */
  readonly #isStepwise: boolean
  readonly #joins: boolean
  /** Images that wait, for the threads of the devices. */
  readonly #waiting = new Int32Array(new SharedArrayBuffer(4))
  /** Start of the lane's last batch, unix ms. */
  readonly #ledAt: Record<Lane, number> = { interactive: 0, batch: 0 }

  constructor(options: ExecutorOptions) {
    const { pool, costs, queueLimit, interactiveTargetMs } = options
    this.#options = options
    this.#isStepwise = options.model.runner.kind === 'vision-language'
    this.#joins = this.#isStepwise && options.joining !== false
    this.#queue = new ImageQueue({
      levels: costs.levels,
      limits: { interactive: queueLimit, batch: queueLimit },
    })
    this.#batcher = new Batcher({
      queue: this.#queue,
      costs,
      devices: pool.devices.length,
      interactiveTargetMs,
      continuous: this.#joins,
      upstream: (lane, now) => this.#upstream(lane, now),
      otherBatches: () => this.#turn?.others('batch') ?? 0,
    })
    this.#idle = new Set(pool.devices)
    this.#turn = options.turns?.join({
      waiting: (lane) => this.waiting(lane),
      workMs: (lane) => (1000 * this.waiting(lane)) / costs.throughput(0),
      feed: () => this.#feedDevices(),
    })
  }

  waiting(lane?: Lane): number {
    return this.#queue.size(lane)
  }

  /** Prune level that the lane's load requires; 0 in a quiet lane. */
  level(lane: Lane): number {
    const isQuiet = this.#options.now() - this.#ledAt[lane] > quietMs
    return isQuiet ? 0 : this.#batcher.level(lane)
  }

  /** Waiting time of the lane's head, ms; 0 when none waits. */
  age(lane: Lane): number {
    const head = this.#queue.lane(lane).head
    return head ? Math.max(0, this.#options.now() - head.image.enqueuedAt) : 0
  }

  /** Recent arrivals in the lane, images per second. */
  arrivalRate(lane: Lane): number {
    return this.#queue.arrivalRate(lane, this.#options.now())
  }

  /** Decides whether one more interactive image can be accepted, and if not, when to retry. */
  admission(image: AdmissionRequest = {}): Admission {
    const { costs, pool, interactiveTargetMs, level = costs.levels.length - 1 } = this.#options
    const now = this.#options.now()
    // A pinned level holds for what is upstream and for this image too: no load prunes them harder.
    const pinned = (backlog: Backlog) => ({ ...backlog, maxLevel: Math.min(backlog.maxLevel, level) })
    const maxPrune = Math.min(image.maxPrune ?? 1, costs.levels[level]!.pruneRatio)
    return admission(
      {
        queue: this.#queue,
        costs,
        devices: pool.devices.length,
        interactiveTargetMs,
        runningMs: this.#runningMs(now),
        upstream: this.#upstream('interactive', now).map(pinned),
      },
      { ...image, maxPrune },
      now,
    )
  }

  /** Time until a device is free, ms. */
  #runningMs(now: number): number {
    const freeAt = this.#options.pool.devices.map((device) =>
      this.#idle.has(device) ? (this.#turn?.freeAt(device.name) ?? 0) : this.#freeAt.get(device)!(),
    )
    return Math.max(0, Math.min(...freeAt) - now)
  }

  /** Images that will arrive, and what callers of other models have the devices do meanwhile, in images of this one. */
  #upstream(lane: Lane, now: number): readonly Backlog[] {
    const { costs, pool, interactiveTargetMs, upstream } = this.#options
    const coming = upstream?.(lane, now) ?? []
    if (!this.#turn || lane === 'batch') return coming
    const others = Math.ceil((this.#turn.othersMs(lane) * costs.throughput(0)) / 1000)
    // Whoever has had less goes first, so that one with little work is not behind all of another one's.
    const images = Math.min(others, this.waiting(lane) + pool.maxBatch)
    if (images === 0) return coming
    return [...coming, { deadline: now + interactiveTargetMs, images, maxLevel: costs.levels.length - 1 }]
  }

  /**
   * Runs a decoded image in the next batch that it fits.
   * @throws TurbineError `queue_full`, `inference_failed`; the signal's reason when it aborts while the image waits
   */
  run(
    image: Omit<QueuedImage<Work>, 'id' | 'group' | 'payload'>,
    work: Pick<Work, 'row' | 'onIds'>,
    signal?: AbortSignal,
  ): Promise<RunResult> {
    const { promise, resolve, reject } = Promise.withResolvers<RunResult>()
    const { row } = work
    const size = this.#sizeOf(row)
    const mostIds = this.#isStepwise ? row.settings.maxTokens : undefined
    const queued: QueuedImage<Work> = {
      ...image,
      id: randomUUID(),
      group: groupOf(this.#options.model.runner, row),
      ...{ size, mostIds, weight: this.#options.costs.weight(size, mostIds) },
      payload: { ...work, attempts: 0, done: false, resolve, reject },
    }
    const onAbort = () => {
      const wasWaiting = this.#queue.remove(queued.id) !== undefined
      this.#tellWaiting()
      if (!wasWaiting && !leave(row)) return
      // If its run fails it is not run again.
      queued.payload.done = true
      reject(signal?.reason)
    }
    this.#enqueue(queued)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#feedDevices()
    return promise.finally(() => signal?.removeEventListener('abort', onAbort))
  }

  /** What a row costs up to its first step follows its prompt, where the images have their places. */
  #sizeOf(row: RunRow): number | undefined {
    const { model, measured } = this.#options
    return model.runner.lengths === 'equal' ? undefined : row.prompt.ids.length / measured.prompt.ids.length
  }

  /**
   * Refuses one more where as many wait as may, those included that are not decoded yet.
   * @throws TurbineError `queue_full`
   */
  assertRoom(lane: Lane, undecoded: number): void {
    const { queueLimit } = this.#options
    if (this.waiting(lane) + undecoded >= queueLimit) throw this.#full(new QueueFullError(lane, queueLimit))
  }

  #enqueue(image: QueuedImage<Work>): void {
    try {
      this.#queue.add(image, this.#options.now())
    } catch (error) {
      throw error instanceof QueueFullError ? this.#full(error) : error
    }
    this.#tellWaiting()
  }

  /** The devices' threads ask for rows that join only where some wait. */
  #tellWaiting(): void {
    Atomics.store(this.#waiting, 0, this.waiting())
  }

  #full({ message }: QueueFullError) {
    const decision = this.admission()
    const retryAfterSeconds = decision.admitted ? 1 : decision.retryAfterSeconds
    return retryLater('queue_full', message, { status: 429, retryAfterSeconds })
  }

  #feedDevices(): void {
    for (const device of this.#idle) {
      const lane = headLane(this)
      if (lane === undefined) return
      // Who has the device tells when it is free.
      if (this.#turn && !this.#turn.take(device.name, lane)) continue
      const batch = this.#batcher.nextBatch(this.#options.now())
      this.#tellWaiting()
      if (batch === undefined) {
        this.#turn?.release(device.name, 0)
        return
      }
      const freeAt = this.#options.now() + batch.predictedMs
      this.#idle.delete(device)
      this.#freeAt.set(device, () => freeAt)
      this.#turn?.expect(device.name, freeAt)
      void this.#runBatch(device, batch)
    }
  }

  async #runBatch(device: Device, batch: DeviceBatch<Work>): Promise<void> {
    const { costs } = this.#options
    let inferenceMs: number | undefined
    const running = new RunningBatch<Work>({
      onIds: ({ payload }, ids) => payload.onIds?.(ids),
      onEnded: (image, row, { batch: { level }, from }) => {
        const { done, row: asked } = image.payload
        // One that left at a stop sequence has ended too.
        const ended = row.ended || row.ids.length < asked.settings.maxTokens
        if (this.#isStepwise && !done) costs.observeCaption({ ids: row.ids.length, ended }, this.#joins)
        finish(image, { row, level, inferenceMs: inferenceMs ?? this.#options.now() - from }, from)
      },
      onFailed: (image, error) => {
        if (!image.payload.done) this.#retry(image, error)
      },
      onDone: (begun, captioned) => this.#report(device, { ...begun, inferenceMs }, captioned),
      now: () => this.#options.now(),
    })
    const turn = { since: this.#options.now() }
    this.#begin(running, batch, false)
    if (this.#joins) this.#freeAt.set(device, () => this.#options.now() + this.#left(running).placeMs)
    const result = await this.#execute(device, batch, { running, turn }).catch((error: unknown) => {
      running.failAll(error)
    })
    // The device gets its next batch before the captions of this one are processed.
    this.#idle.add(device)
    this.#freeAt.delete(device)
    if (this.#turn) this.#turn.release(device.name, this.#options.now() - turn.since)
    else this.#feedDevices()
    inferenceMs = result?.inferenceMs
    result?.rows.forEach((row, index) => {
      running.end(index, row)
    })
  }

  #begin(running: RunningBatch<Work>, batch: DeviceBatch<Work>, joined: boolean): RowGroup {
    const from = this.#options.now()
    this.#ledAt[batch.lane] = from
    running.begin({ batch, from, joined })
    return {
      rows: batch.images.map(({ payload }) => payload.row),
      schedule: this.#options.model.levels[batch.level]!,
    }
  }

  async #execute(device: Device, batch: DeviceBatch<Work>, run: Run): Promise<DeviceResult> {
    const { model, costs } = this.#options
    const { images, bucket, level } = batch
    const { running } = run
    const rows = images.map(({ payload }) => payload.row)
    const result = await device.run({
      rows,
      schedule: model.levels[level]!,
      onMade: (made) => running.made(made),
      ...(this.#joins && { joining: this.#joining(device, run) }),
    })
    const { inferenceMs, steps, stepsMs } = result
    if (!this.#joins && isTelling(model, rows, steps))
      costs.observe({ bucket, level, ms: inferenceMs, size: sizeOf(images), steps, stepsMs })
    return result
  }

  #joining(device: Device, run: Run): Joining {
    const { running } = run
    return {
      waiting: this.#waiting,
      next: (count) => this.#join(device, run, count),
      onTime: (time) => this.#observe(device, running, time),
      onFailed: (rows, error) => running.fail(rows, error),
    }
  }

  /** Rows that join a batch of which so many run, between two of its steps. */
  #join(device: Device, { running, turn }: Run, count: number): RowGroup | undefined {
    const { pool, interactiveTargetMs, now } = this.#options
    const free = pool.maxBatch - count
    const lane = headLane(this)
    if (free < 1 || lane === undefined || running.begun >= mostRowsOfBatch) return undefined
    const at = now()
    if (this.#turn && !this.#turn.goOn(device.name, lane, at - turn.since)) return undefined
    turn.since = at
    const holdUpMs = running.hasRowsOf('interactive')
      ? holdUpShare * interactiveTargetMs
      : Number.POSITIVE_INFINITY
    const batch = this.#batcher.joining(at, { free, holdUpMs })
    this.#tellWaiting()
    return batch && this.#begin(running, batch, true)
  }

  #left(running: RunningBatch<Work>): TimeLeft {
    const { costs, pool } = this.#options
    return timeLeft(running.rows(), { costs, places: pool.maxBatch })
  }

  #observe(device: Device, running: RunningBatch<Work>, { rows, steps, ms }: PartTime): void {
    const { costs, pool, onSteps, now } = this.#options
    const bucket = bucketFor(rows.length, costs.buckets)
    if (steps > 0) {
      costs.observeSteps({ bucket, steps, stepsMs: ms })
      onSteps?.({ device: device.name, rows: rows.length, places: pool.maxBatch, steps })
      this.#turn?.expect(device.name, now() + this.#left(running).endMs)
    } else {
      const begun = running.groupOf(rows[0]!)
      if (begun) costs.observe({ bucket, level: begun.batch.level, ms, size: sizeOf(begun.batch.images) })
    }
  }

  #retry(image: QueuedImage<Work>, cause: unknown): void {
    const { payload, lane } = image
    payload.attempts++
    const retriable = (cause as { retriable?: boolean }).retriable === true
    if (retriable && payload.attempts < maxAttempts && !this.#queue.isFull(lane)) {
      this.#queue.add(image, this.#options.now())
      this.#tellWaiting()
      return
    }
    payload.reject(
      retryLater('inference_failed', 'Inference failed on this image. Retry the request.', { cause }),
    )
  }

  #report(
    device: Device,
    { batch, from, joined, inferenceMs }: RowsBegun<Work> & { inferenceMs: number | undefined },
    captioned: readonly Captioned<Work>[],
  ): void {
    if (captioned.length === 0) return
    const { costs, now, onBatch } = this.#options
    const { bucket, level, predictedMs } = batch
    const { pruneRatio, exact = 1 } = costs.levels[level]!
    const to = now()
    onBatch?.({
      ...{ device: device.name, joined, from, to, inferenceMs: inferenceMs ?? to - from },
      images: perLane(captioned),
      late: perLane(captioned.filter(({ image: { deadline = to }, at }) => at > deadline)),
      ...{ bucket, level, pruneRatio },
      qualitySpent: 1 - exact,
      predictedMs,
    })
  }
}

/** A run of a device. */
interface Run {
  running: RunningBatch<Work>
  /** Since when the device's time is not accounted for, unix ms. */
  turn: { since: number }
}

/** Gives an image its result, which a row has that ended before its batch. */
function finish(
  { enqueuedAt, payload }: QueuedImage<Work>,
  result: Omit<RunResult, 'queueMs'>,
  startedAt: number,
): void {
  payload.done = true
  payload.resolve({ ...result, queueMs: Math.max(0, startedAt - enqueuedAt) })
}

/** Lets a row leave its batch while it runs. @returns false for one that cannot */
export function leave({ leaves }: RunRow): boolean {
  if (leaves === undefined) return false
  Atomics.store(leaves, 0, 1)
  return true
}

/**
 * What rows of one batch share: the length of their prompts, or its power of two where shorter ones can be padded, so that rows of
 * a batch cost about the same.
 */
export function groupOf(
  { lengths }: Pick<RunnerPlan, 'lengths'>,
  { prompt }: Pick<RunRow, 'prompt'>,
): string {
  const { length } = prompt.ids
  return lengths === 'equal' ? String(length) : `up to ${2 ** Math.ceil(Math.log2(Math.max(1, length)))}`
}

/** Counts images by lane: batch images fill the free rows of interactive batches. */
function perLane(captioned: readonly Captioned<Work>[]): Record<Lane, number> {
  const interactive = captioned.filter(({ image }) => image.lane === 'interactive').length
  return { interactive, batch: captioned.length - interactive }
}

/**
 * Whether the time of a batch says something of others: not where all captions are cut short and steps are not known apart, nor
 * where some of them are made in another way than the model's own settings ask for.
 */
export function isTelling(
  { generation, runner }: Pick<CaptionModel, 'generation' | 'runner'>,
  rows: readonly Pick<RunRow, 'settings'>[],
  steps: number | undefined,
): boolean {
  const isSpecial = runner.kind === 'captioner' ? isGuarded : hasBeams
  if (rows.some(({ settings }) => isSpecial(settings) !== isSpecial(generation))) return false
  return steps !== undefined || rows.some(({ settings }) => settings.maxTokens >= generation.maxTokens)
}
