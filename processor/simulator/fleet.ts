import type { Random } from '../../infra/starter-model/random.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import type { SimulatedBatch } from './batch-load.ts'
import type { DeviceCosts } from './device-costs.ts'
import type { FleetOptions } from './fleet-options.ts'
import { type Image, Replica } from './replica.ts'
import { SimulatedGroup } from './simulated-group.ts'

/** Scheduled event of the fleet. */
export type FleetEvent =
  | { kind: 'ready' | 'fails' | 'drain-timeout'; replica: Replica }
  | { kind: 'session-timeout' }
  | { kind: 'assigned'; rebalance: number }

export interface FleetDeps {
  costs: DeviceCosts
  options: FleetOptions
  batch: SimulatedBatch | undefined
  random: Random
  schedule(at: number, event: FleetEvent): void
  /** Receives requests of a replica that is gone, to be redelivered. */
  onAbandoned(images: Image[], now: number): void
}

/** Size of the fleet from a time on. */
export interface FleetSize {
  at: number
  /** Replicas that take work. */
  serving: number
  /** Replicas that cost money: starting and draining ones included. */
  running: number
}

/** Replicas, their starts and ends, and the consumer group that they share the requests in. */
export class Fleet {
  readonly group: SimulatedGroup<Replica, Image>
  /** Replicas that are not gone. */
  readonly replicas = new Set<Replica>()
  readonly sizes: FleetSize[] = []
  failures = 0
  readonly #deps: FleetDeps
  readonly #truth: CostModel
  #serving: Replica[] = []
  #made = 0
  #rebalances = 0

  constructor(deps: FleetDeps) {
    this.#deps = deps
    this.#truth = new CostModel(deps.costs)
    this.group = new SimulatedGroup(deps.options.partitions)
    for (let i = 0; i < deps.options.replicas; i++) this.#add(0, 0)
    for (const replica of this.replicas) this.#serve(replica, 0)
    this.group.assign(this.#serving)
  }

  /** Replicas that take work. */
  get serving(): readonly Replica[] {
    return this.#serving
  }

  /** Desired replicas: starting ones count, draining ones do not. */
  get desired(): number {
    let desired = 0
    for (const { state } of this.replicas) if (state !== 'draining') desired++
    return desired
  }

  /** Mean throughput of a replica without pruning, images per second; undefined while none serves. */
  get throughput(): number | undefined {
    if (this.#serving.length === 0) return undefined
    return this.#serving.reduce((sum, { costs }) => sum + costs.throughput(0), 0) / this.#serving.length
  }

  /** Starts or removes replicas: first those that are starting, then the newest. */
  scaleTo(desired: number, now: number): void {
    for (let missing = desired - this.desired; missing > 0; missing--)
      this.#add(now, this.#deps.options.startMs)
    for (let extra = this.desired - desired; extra > 0; extra--) this.#dismiss(now)
    this.#note(now)
  }

  handle(event: FleetEvent, now: number): void {
    switch (event.kind) {
      case 'ready':
        if (event.replica.state === 'starting') this.#join(event.replica, now)
        break
      case 'fails':
        this.#fail(event.replica, now)
        break
      case 'drain-timeout':
        this.#remove(event.replica, now)
        break
      case 'session-timeout':
        this.#rebalance(now)
        break
      case 'assigned':
        if (event.rebalance === this.#rebalances) this.group.assign(this.#serving)
    }
  }

  /** Removes an idle replica that drains. */
  onIdle(replica: Replica, now: number): void {
    if (replica.state === 'draining') this.#remove(replica, now)
  }

  #add(now: number, startMs: number): void {
    const { costs, options, batch, random, schedule } = this.#deps
    const replica = new Replica({
      id: this.#made++,
      costs,
      truth: this.#truth,
      slowdown: random() < options.stragglers ? options.stragglerFactor : 1,
      jitter: () => Math.exp(options.jitter * gaussian(random)),
      sloMs: options.sloMs,
      queueLimit: options.queueLimit,
      batch,
      sharedBy: () => this.#serving.length,
    })
    this.replicas.add(replica)
    if (startMs > 0) schedule(now + startMs, { kind: 'ready', replica })
  }

  #serve(replica: Replica, now: number): void {
    const { options, random, schedule } = this.#deps
    replica.state = 'serving'
    this.#serving.push(replica)
    if (Number.isFinite(options.mtbfMs))
      schedule(now - Math.log(1 - random()) * options.mtbfMs, { kind: 'fails', replica })
    this.#note(now)
  }

  #join(replica: Replica, now: number): void {
    this.#serve(replica, now)
    this.#rebalance(now)
  }

  #dismiss(now: number): void {
    const { options, schedule } = this.#deps
    const starting = [...this.replicas].findLast(({ state }) => state === 'starting')
    if (starting) {
      this.#remove(starting, now)
      return
    }
    const replica = this.#serving.pop()!
    replica.state = 'draining'
    schedule(now + options.drainMs, { kind: 'drain-timeout', replica })
    this.#rebalance(now)
    if (replica.isIdle) this.#remove(replica, now)
  }

  /** Replaces a failed replica at once; its partitions move only after the session timeout. */
  #fail(replica: Replica, now: number): void {
    if (!this.replicas.has(replica)) return
    const { options, schedule } = this.#deps
    this.failures++
    const replaced = replica.state === 'serving'
    this.#remove(replica, now)
    schedule(now + options.sessionTimeoutMs, { kind: 'session-timeout' })
    if (replaced) this.#add(now, options.startMs)
    this.#note(now)
  }

  #remove(replica: Replica, now: number): void {
    if (!this.replicas.delete(replica)) return
    this.#serving = this.#serving.filter((other) => other !== replica)
    this.#deps.onAbandoned(replica.abandon(), now)
    this.#note(now)
  }

  #rebalance(now: number): void {
    this.group.stop()
    const { schedule, options } = this.#deps
    schedule(now + options.rebalanceMs, { kind: 'assigned', rebalance: ++this.#rebalances })
  }

  #note(at: number): void {
    const size = { at, serving: this.#serving.length, running: this.replicas.size }
    if (this.sizes.at(-1)?.at === at) this.sizes.pop()
    this.sizes.push(size)
  }
}

/** A standard normal number, by Box and Muller. */
const gaussian = (random: Random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
