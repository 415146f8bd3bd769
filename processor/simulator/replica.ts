import { batchBacklog } from '../fleet/load.ts'
import { admission } from '../scheduling/admission.ts'
import { Batcher, type DeviceBatch } from '../scheduling/batcher.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { type Backlog, type Lane, lanes } from '../scheduling/level.ts'
import { ImageQueue, type QueuedImage } from '../scheduling/queue.ts'
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

/** Current run. */
interface Run {
  batch: DeviceBatch<Work>
  startedAt: number
  endsAt: number
}

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
  #run: Run | undefined

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
      upstream: (lane) => this.#upstream(lane),
    })
    this.#decoderFreeAt = new Array<number>(decodersAtOnce).fill(0)
  }

  get hasRoom(): boolean {
    return this.inFlight < this.#options.queueLimit
  }

  get isIdle(): boolean {
    return this.inFlight === 0 && this.#run === undefined && this.#shards.size === 0
  }

  /** Decides on admission as processors do. */
  admits({ deadline = Number.POSITIVE_INFINITY, maxPrune }: Image, now: number): boolean {
    // Accepted with 202.
    if (now >= deadline) return true
    const options = {
      queue: this.#queue,
      costs: this.costs,
      interactiveTargetMs: this.#options.sloMs,
      runningMs: this.#run ? Math.max(0, this.#run.startedAt + this.#run.batch.predictedMs - now) : 0,
      upstream: this.#upstream('interactive'),
    }
    return admission(options, { deadline, maxPrune }, now).admitted
  }

  /** Accepts an image. @returns when it will be decoded, ms; now where that takes no time */
  take(image: Image, now: number): number {
    if (typeof image.payload === 'number') this.inFlight++
    const { decodeMs } = this.#options.costs
    if (decodeMs === 0) {
      this.#queue.add(image, now)
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
    this.#queue.add(image, now)
  }

  /** Starts the next batch on an idle device. @returns its end; undefined when nothing is to be run */
  startRun(now: number): number | undefined {
    if (this.#run) return undefined
    const batch = this.#batcher.nextBatch(now)
    if (!batch) return undefined
    const { truth, slowdown, jitter } = this.#options
    const endsAt = now + truth.predict(batch.bucket, batch.level) * slowdown * jitter()
    this.#run = { batch, startedAt: now, endsAt }
    return endsAt
  }

  /** Ends the run. @returns its batch */
  endRun(now: number): DeviceBatch<Work> {
    const { batch, startedAt } = this.#run!
    this.#run = undefined
    this.costs.observe({ bucket: batch.bucket, level: batch.level, ms: now - startedAt })
    for (const { payload } of batch.images) {
      if (typeof payload === 'number') this.inFlight--
      else this.#lineDone(payload, batch.level, now)
    }
    return batch
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
      payload: shard,
    }
  }

  /** Drops everything in flight. @returns the requests, to be redelivered */
  abandon(): Image[] {
    this.state = 'gone'
    const everything = [
      ...(this.#run?.batch.images ?? []),
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

/** Lines of batches in flight: enough to keep the device busy. */
const linesAtOnce = ({ buckets }: DeviceCosts) => 2 * buckets.at(-1)!
