import FlatQueue from 'flatqueue'
import { type Random, seededRandom } from '../../infra/starter-model/random.ts'
import { Autoscaler } from './autoscaler.ts'
import type { SimulatedBatch } from './batch-load.ts'
import type { DeviceCosts } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { Fleet, type FleetEvent } from './fleet.ts'
import type { FleetOptions } from './fleet-options.ts'
import { type FleetSample, LoadMonitor } from './load-monitor.ts'
import { Outcomes } from './outcomes.ts'
import type { Policy } from './policies.ts'
import type { Image, Replica } from './replica.ts'
import type { Arrival } from './traces.ts'

export interface SimulationInput {
  /** In the order of time. */
  arrivals: readonly Arrival[]
  /** Minimum duration of the load, ms; the simulation runs until all work is done. */
  durationMs: number
  batch: SimulatedBatch | undefined
  costs: DeviceCosts
  fleet: FleetOptions
  policy: Policy
  seed: number
}

type Event =
  | FleetEvent
  | { kind: 'decoded' | 'run-done'; replica: Replica }
  | { kind: 'batch-arrives' | 'sample' | 'scrape' | 'sync' }

/** Independent streams of random numbers, so that policies meet the same load. */
const streams = { partitions: 1, fleet: 2, lengths: 3 } as const

const hourMs = 3_600_000
/** Timeout of a simulation, relative to the length of its load. */
const maxFactor = 24

/**
 * Simulation of one policy under one load: the processors' own queues, batchers and cost models, with a virtual clock and
 * devices that take as long as the measured one.
 */
export class Simulation {
  readonly outcomes: Outcomes
  readonly fleet: Fleet
  /** End of the last work, ms. */
  endedAt = 0
  readonly #input: SimulationInput
  readonly #events = new FlatQueue<Event>()
  readonly #partitionOf: Uint16Array
  /** Ids of each request's caption, of models that make them step by step. */
  readonly #ids: readonly number[] | undefined
  readonly #autoscaler: Autoscaler | undefined
  readonly #monitor = new LoadMonitor()
  /** Desired replicas at the last scrape. */
  #desired: number | undefined
  #next = 0

  constructor(input: SimulationInput) {
    const { arrivals, fleet: options, policy, batch, costs, seed } = input
    this.#input = input
    this.outcomes = new Outcomes(arrivals)
    this.#partitionOf = partitionsOf(
      arrivals.length,
      options.partitions,
      seededRandom(seed, streams.partitions),
    )
    const { text } = costs
    const random = seededRandom(seed, streams.lengths)
    this.#ids = text && arrivals.map(() => text.lengths[Math.floor(random() * text.lengths.length)]!)
    this.fleet = new Fleet({
      costs,
      options,
      batch,
      random: seededRandom(seed, streams.fleet),
      schedule: (at, event) => this.#events.push(event, at),
      onAbandoned: (images, now) => this.#redeliver(images, now),
    })
    if (batch) this.#events.push({ kind: 'batch-arrives' }, batch.at)
    if (!policy.autoscale) return
    const { minReplicas: min, maxReplicas: max, scaleDownWindowMs, cooldownMs } = options
    this.#autoscaler = new Autoscaler({ min, max, scaleDownWindowMs, cooldownMs })
    for (const kind of ['sample', 'scrape', 'sync'] as const) this.#events.push({ kind }, 0)
  }

  /** Runs until all work is done and the load is over. */
  run(): this {
    const { arrivals, durationMs, costs } = this.#input
    for (;;) {
      const arrivesAt = arrivals[this.#next]
        ? arrivals[this.#next]!.at + costs.ingestMs
        : Number.POSITIVE_INFINITY
      const eventAt = this.#events.peekValue() ?? Number.POSITIVE_INFINITY
      const now = Math.min(arrivesAt, eventAt)
      if (this.#isDone && now >= Math.max(durationMs, this.endedAt)) return this
      if (now > this.#timeoutAt)
        throw new SimulationInputError(
          `The fleet is not done after ${Math.round(this.#timeoutAt / 3_600_000)} hours: it keeps losing its work. Use more replicas, or a longer time between failures.`,
        )
      if (arrivesAt <= eventAt) this.#arrive(this.#next++, now)
      else this.#handle(this.#events.pop()!, now)
    }
  }

  get #timeoutAt(): number {
    const { durationMs, batch } = this.#input
    return maxFactor * Math.max(hourMs, durationMs, batch?.deadline ?? 0)
  }

  get #isDone(): boolean {
    const { batch } = this.#input
    return this.outcomes.open === 0 && (batch === undefined || batch.doneAt !== undefined)
  }

  #handle(event: Event, now: number): void {
    const { sampleMs, scrapeMs, syncMs } = this.#input.fleet
    switch (event.kind) {
      case 'decoded':
        this.#decoded(event.replica, now)
        break
      case 'run-done':
        this.#endRun(event.replica, now)
        break
      case 'batch-arrives':
        this.#feedAll(now)
        break
      case 'sample':
        this.#monitor.sample(this.#sample(), now)
        this.#events.push(event, now + sampleMs)
        break
      case 'scrape':
        this.#desired = this.#monitor.desired(this.#sample(), now)
        this.#events.push(event, now + scrapeMs)
        break
      case 'sync':
        this.#scale(now)
        this.#events.push(event, now + syncMs)
        break
      default:
        this.fleet.handle(event, now)
        if (event.kind === 'assigned') this.#feedAll(now)
    }
  }

  /** Delivers a request to the owner of its partition, or leaves it in the partition. */
  #arrive(request: number, now: number): void {
    const image = this.#imageOf(request)
    const partition = this.#partitionOf[request]!
    const owner = this.fleet.group.ownerOf(partition)
    if (owner?.state === 'serving' && owner.hasRoom) this.#take(owner, image, now)
    else this.fleet.group.park(image, { partition, offset: request })
  }

  #imageOf(request: number): Image {
    const { arrivals, fleet, policy } = this.#input
    const { at, lane = 'interactive', deadlineMs, maxPrune = 1 } = arrivals[request]!
    const wantedIn = deadlineMs ?? (lane === 'interactive' ? fleet.sloMs : undefined)
    return {
      id: String(request),
      lane,
      enqueuedAt: at,
      deadline: wantedIn === undefined ? undefined : at + wantedIn,
      maxPrune,
      level: policy.level,
      group: '',
      mostIds: this.#ids?.[request],
      payload: request,
    }
  }

  #take(replica: Replica, image: Image, now: number): void {
    const { lane, payload } = image
    if (lane === 'interactive' && !replica.admits(image, now)) {
      this.outcomes.reject(payload as number)
      this.endedAt = Math.max(this.endedAt, now)
      return
    }
    const readyAt = replica.take(image, now)
    if (readyAt > now) this.#events.push({ kind: 'decoded', replica }, readyAt)
    else this.#startRun(replica, now)
  }

  #decoded(replica: Replica, now: number): void {
    if (replica.state === 'gone') return
    replica.decoded(now)
    this.#startRun(replica, now)
  }

  #startRun(replica: Replica, now: number): void {
    const endsAt = replica.startRun(now)
    if (endsAt !== undefined) this.#events.push({ kind: 'run-done', replica }, endsAt)
  }

  #endRun(replica: Replica, now: number): void {
    if (replica.state === 'gone') return
    const at = now + this.#input.costs.overheadMs
    for (const { image, level } of replica.endRun(now))
      if (typeof image.payload === 'number') this.outcomes.answer(image.payload, { at, level })
    this.endedAt = Math.max(this.endedAt, at)
    this.#startRun(replica, now)
    this.#feed(replica, now)
    if (replica.isIdle) this.fleet.onIdle(replica, now)
  }

  #feedAll(now: number): void {
    for (const replica of this.fleet.serving) this.#feed(replica, now)
  }

  /** Delivers to a replica from the stream: requests, and lines of the batch. */
  #feed(replica: Replica, now: number): void {
    const { queueLimit } = this.#input.fleet
    if (replica.state === 'serving')
      for (const image of this.fleet.group.takeFor(replica, queueLimit - replica.inFlight))
        this.#take(replica, image, now)
    const { level } = this.#input.policy
    for (let line = replica.nextLine(now); line; line = replica.nextLine(now))
      this.#take(replica, { ...line, level }, now)
  }

  /** Redelivers the requests of a lost replica to the new owners of its partitions. */
  #redeliver(images: Image[], now: number): void {
    for (const image of images) {
      const offset = image.payload as number
      this.fleet.group.park(image, { partition: this.#partitionOf[offset]!, offset })
    }
    // Its partitions may be reassigned already, and its shards are unassigned again.
    this.#feedAll(now)
  }

  #sample(): FleetSample {
    const { batch } = this.#input
    const { throughput } = this.fleet
    const taken = this.#next
    const lag = taken - (this.outcomes.arrivals.length - this.outcomes.open)
    return { taken, lag, throughput, batches: batch && batch.doneAt === undefined ? [batch.backlog] : [] }
  }

  /** The autoscaler asks Kafka for the lag directly, and the monitoring for the processors' metrics. */
  #scale(now: number): void {
    const { desired } = this.fleet
    const values = [this.#desired ?? 0, this.#sample().lag / this.#input.fleet.lagThreshold]
    const replicas = this.#autoscaler!.decide({ values, replicas: desired }, now)
    if (replicas !== desired) this.fleet.scaleTo(replicas, now)
  }
}

/** Keys of requests are random, so each partition is as likely as any other. */
function partitionsOf(requests: number, partitions: number, random: Random): Uint16Array {
  return Uint16Array.from({ length: requests }, () => Math.floor(random() * partitions))
}
