import { batchBacklog } from '../fleet/load.ts'
import { admission } from '../scheduling/admission.ts'
import { Batcher, type DeviceBatch } from '../scheduling/batcher.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { type Backlog, type Lane, lanes } from '../scheduling/level.ts'
import { ImageQueue, type QueuedImage } from '../scheduling/queue.ts'
import { stepsBetweenJoins, timeLeft } from '../scheduling/time-left.ts'
import type { Shard, SimulatedBatch } from './batch-load.ts'
import type { DeviceCosts } from './device-costs.ts'

/** Origin of an image: the request of this number in the trace, or a line of a shard. */
export type Work = number | Shard

export type Image = QueuedImage<Work>

export interface ReplicaOptions {
  id: number
  costs: DeviceCosts
  /** Actual run times of the device, without jitter. */
  truth: CostModel
  /** Factor of its run times; 1 is as measured. */
  slowdown: number
  /** A factor for the time of each run, around 1. */
  jitter(): number
  sloMs: number
  /** Maximum requests in flight. */
  queueLimit: number
  /** Running batch, and the number of replicas that share it. */
  batch: SimulatedBatch | undefined
  sharedBy(): number
}

/** State of a replica: `starting` until its model is open, `draining` once it is to be removed. */
export type ReplicaState = 'starting' | 'serving' | 'draining' | 'gone'

/** What the device does now: a whole run; or pictures and prompts of rows that begin, or steps, between which rows join. */
type Part = { kind: 'run' | 'first'; batch: DeviceBatch<Work> } | { kind: 'steps'; steps: number }

/** Current part of a run. */
interface Run {
  part: Part
  startedAt: number
  /** By its cost model, unix ms. */
  expectedAt: number
}

/** Row of a batch that rows can join. */
interface Row {
  image: Image
  batch: DeviceBatch<Work>
  /** Ids so far. */
  ids: number
}

/** Image that has its caption. */
export interface Served {
  image: Image
  level: number
}

/** As in a processor. */
const holdUpShare = 0.5

/** Maximum shards in flight, as in a processor. */
const maxShards = 4

/** Processor with one device: the queue, batcher and cost model of processors, and a device as fast as the measured one. */
export class Replica {
  readonly id: number
  state: ReplicaState = 'starting'
  /** Requests of the trace in flight. */
  inFlight = 0
  readonly costs: CostModel
  readonly #options: ReplicaOptions
  readonly #queue: ImageQueue<Work>
  readonly #batcher: Batcher<Work>
  /** Images being decoded or waiting for it, in order of completion: all take equally long. */
  readonly #decoding: Image[] = []
  #interactiveDecoding = 0
  readonly #decoderFreeAt: number[]
  readonly #shards = new Set<Shard>()
  #linesInFlight = 0
  /** Lines so far, which have their lengths in turn. */
  #lines = 0
  #run: Run | undefined
  /** Rows whose captions grow, where rows join them. */
  #rows: Row[] = []
  /** Whether the last part was rows that began: then those that run go on first. */
  #hasJoined = false

  constructor(options: ReplicaOptions) {
    const { id, costs, sloMs, queueLimit } = options
    const { levels, buckets, samples, seeds = samples, decoders: decodersAtOnce } = costs
    this.id = id
    this.#options = options
    this.costs = new CostModel({ levels, buckets, samples: seeds, decodersAtOnce })
    const lines = linesAtOnce(costs)
    this.#queue = new ImageQueue({ levels, limits: { interactive: queueLimit, batch: queueLimit + lines } })
    this.#batcher = new Batcher({
      queue: this.#queue,
      costs: this.costs,
      interactiveTargetMs: sloMs,
      continuous: costs.text?.joining === true,
      upstream: (lane) => this.#upstream(lane),
    })
    this.#decoderFreeAt = new Array<number>(decodersAtOnce).fill(0)
  }

  get hasRoom(): boolean {
    return this.inFlight < this.#options.queueLimit
  }

  get isIdle(): boolean {
    return (
      this.inFlight === 0 && this.#run === undefined && this.#rows.length === 0 && this.#shards.size === 0
    )
  }

  /** Decides on admission as processors do. */
  admits({ deadline = Number.POSITIVE_INFINITY, maxPrune, mostIds }: Image, now: number): boolean {
    // Accepted with 202.
    if (now >= deadline) return true
    const options = {
      queue: this.#queue,
      costs: this.costs,
      interactiveTargetMs: this.#options.sloMs,
      runningMs: this.#runningMs(now),
      upstream: this.#upstream('interactive'),
    }
    return admission(options, { deadline, maxPrune, maxTokens: mostIds }, now).admitted
  }

  /** Time until one more image has the device, or its share of it, ms. */
  #runningMs(now: number): number {
    if (!this.#run) return 0
    const { part, expectedAt } = this.#run
    if (part.kind === 'run') return Math.max(0, expectedAt - now)
    const beginning = part.kind === 'first' ? part.batch.images.map((image) => rowOf(image, part.batch)) : []
    const rows = [...this.#rows, ...beginning].map(({ image, batch, ids }) => ({
      ...{ batch, ids },
      mostIds: image.mostIds!,
    }))
    return timeLeft(rows, { costs: this.costs, places: this.#largest }).placeMs
  }

  get #largest(): number {
    return this.costs.buckets.at(-1)!
  }

  /** Accepts an image. @returns when it will be decoded, ms; now where that takes no time */
  take(image: Image, now: number): number {
    if (typeof image.payload === 'number') this.inFlight++
    const { decodeMs } = this.#options.costs
    if (decodeMs === 0) {
      this.#enqueue(image, now)
      return now
    }
    const decoder = this.#decoderFreeAt.indexOf(Math.min(...this.#decoderFreeAt))
    const readyAt = Math.max(now, this.#decoderFreeAt[decoder]!) + decodeMs
    this.#decoderFreeAt[decoder] = readyAt
    this.#decoding.push(image)
    if (image.lane === 'interactive') this.#interactiveDecoding++
    return readyAt
  }

  /** Queues the image that has been decoded, the first accepted of those being decoded. */
  decoded(now: number): void {
    const image = this.#decoding.shift()!
    if (image.lane === 'interactive') this.#interactiveDecoding--
    this.costs.observeDecoding(this.#options.costs.decodeMs)
    this.#enqueue(image, now)
  }

  #enqueue(image: Image, now: number): void {
    this.#queue.add({ ...image, weight: this.costs.weight(undefined, image.mostIds) }, now)
  }

  /** Starts what an idle device does next. @returns its end; undefined when nothing is to be run */
  startRun(now: number): number | undefined {
    if (this.#run) return undefined
    const part = this.#nextPart(now)
    if (!part) return undefined
    const { truth, slowdown, jitter } = this.#options
    this.#run = { part, startedAt: now, expectedAt: now + this.#timeOf(part, this.costs) }
    return now + this.#timeOf(part, truth) * slowdown * jitter()
  }

  #nextPart(now: number): Part | undefined {
    const { costs, sloMs } = this.#options
    if (this.#rows.length === 0) {
      const batch = this.#batcher.nextBatch(now)
      return batch && { kind: costs.text?.joining ? 'first' : 'run', batch }
    }
    const free = this.#largest - this.#rows.length
    const isHeard = this.#rows.some(({ image }) => image.lane === 'interactive')
    const places = { free, holdUpMs: isHeard ? holdUpShare * sloMs : Number.POSITIVE_INFINITY }
    const joining = free > 0 && !this.#hasJoined ? this.#batcher.joining(now, places) : undefined
    if (joining) return { kind: 'first', batch: joining }
    const left = Math.max(...this.#rows.map(({ image, ids }) => image.mostIds! - ids))
    return { kind: 'steps', steps: Math.min(left, stepsBetweenJoins) }
  }

  /** Time of a part by a cost model, ms. */
  #timeOf(part: Part, costs: CostModel): number {
    if (part.kind === 'steps') return costs.predictSteps(this.#bucket, part.steps)
    const { bucket, level } = part.batch
    const first = costs.predictFirst(bucket, level)
    return part.kind === 'first' ? first : first + costs.predictSteps(bucket, longestOf(part.batch))
  }

  /** Batch size of the rows that run. */
  get #bucket(): number {
    return this.costs.buckets.find((bucket) => bucket >= this.#rows.length)!
  }

  /** Ends the run, or its part. @returns the images that have their captions */
  endRun(now: number): Served[] {
    const { part, startedAt } = this.#run!
    const ms = now - startedAt
    this.#run = undefined
    this.#hasJoined = part.kind === 'first' && this.#rows.length > 0
    const served = this.#endPart(part, ms)
    for (const { image, level } of served) {
      if (typeof image.payload === 'number') this.inFlight--
      else this.#lineDone(image.payload, level, now)
      if (image.mostIds !== undefined)
        this.costs.observeCaption({ ids: image.mostIds, ended: true }, part.kind !== 'run')
    }
    return served
  }

  #endPart(part: Part, ms: number): Served[] {
    if (part.kind === 'steps') {
      this.costs.observeSteps({ bucket: this.#bucket, steps: part.steps, stepsMs: ms })
      for (const row of this.#rows) row.ids += part.steps
    } else {
      const { bucket, level, images } = part.batch
      const steps = part.kind === 'run' ? longestOf(part.batch) : 0
      const share = this.costs.predictSteps(bucket, steps) / this.#timeOf(part, this.costs)
      const ofSteps = steps > 0 && { steps, stepsMs: ms * share }
      this.costs.observe({ bucket, level, ms, ...ofSteps })
      if (part.kind === 'run') return images.map((image) => ({ image, level }))
      this.#rows.push(...images.map((image) => ({ ...rowOf(image, part.batch), ids: 1 })))
    }
    const [growing, ended] = [false, true].map((isOver) =>
      this.#rows.filter(({ image, ids }) => ids >= image.mostIds! === isOver),
    ) as [Row[], Row[]]
    this.#rows = growing
    return ended.map(({ image, batch }) => ({ image, level: batch.level }))
  }

  /** Next line of a shard, if more are needed to keep the device busy. A draining replica takes no new shard. */
  nextLine(now: number): Image | undefined {
    const { batch, costs } = this.#options
    if (!batch || this.#linesInFlight >= linesAtOnce(costs)) return undefined
    const shard = this.#shardWithLines() ?? this.#takeShard(batch, now)
    if (!shard) return undefined
    this.#linesInFlight++
    return {
      id: `shard ${shard.index}.${shard.attempt}, line ${shard.begun++}`,
      lane: 'batch',
      enqueuedAt: now,
      deadline: batch.deadline,
      maxPrune: batch.maxPrune,
      group: '',
      mostIds: costs.text?.lengths[this.#lines++ % costs.text.lengths.length],
      payload: shard,
    }
  }

  /** Drops everything in flight. @returns the requests, to be redelivered */
  abandon(): Image[] {
    this.state = 'gone'
    const everything = [
      ...(this.#run && this.#run.part.kind !== 'steps' ? this.#run.part.batch.images : []),
      ...this.#rows.map(({ image }) => image),
      ...lanes.flatMap((lane) =>
        this.#queue
          .lane(lane)
          .pick(this.#queue.size(lane), this.#queue.size(lane), () => true)
          .map(({ image }) => image),
      ),
      ...this.#decoding,
    ]
    for (const shard of this.#shards) shard.batch.giveBack(shard)
    this.#shards.clear()
    this.inFlight = 0
    return everything.filter(({ payload }) => typeof payload === 'number')
  }

  #shardWithLines(): Shard | undefined {
    for (const shard of this.#shards) if (shard.begun < shard.lines) return shard
    return undefined
  }

  #takeShard(batch: SimulatedBatch, now: number): Shard | undefined {
    if (this.state !== 'serving' || this.#shards.size >= maxShards) return undefined
    const shard = batch.take(now)
    if (shard) this.#shards.add(shard)
    return shard
  }

  #lineDone(shard: Shard, level: number, now: number): void {
    this.#linesInFlight--
    shard.batch.lineDone(shard, level, now)
    if (shard.levels.length === shard.lines) this.#shards.delete(shard)
  }

  /** Upstream backlog, as the pipeline reports it. */
  #upstream(lane: Lane): Backlog[] {
    const { batch, costs, sharedBy } = this.#options
    if (lane === 'interactive') {
      const last = this.#decoding.findLast((image) => image.lane === 'interactive')
      if (!last) return []
      const { deadline = Number.POSITIVE_INFINITY } = last
      return [{ deadline, images: this.#interactiveDecoding, maxLevel: costs.levels.length - 1 }]
    }
    if (!batch) return []
    const { backlog } = batch
    const share = [{ ...backlog, linesLeft: Math.ceil(backlog.linesLeft / Math.max(1, sharedBy())) }]
    return batchBacklog(share, { levels: costs.levels, queued: this.#queue.size('batch') })
  }
}

const rowOf = (image: Image, batch: DeviceBatch<Work>): Row => ({ image, batch, ids: 0 })

/** Steps behind the first of the longest caption of a batch; 0 where there are no steps. */
const longestOf = ({ images }: DeviceBatch<Work>) => Math.max(...images.map(({ mostIds = 1 }) => mostIds)) - 1

/** Lines of batches in flight: enough to keep the device busy. */
const linesAtOnce = ({ buckets }: DeviceCosts) => 2 * buckets.at(-1)!
