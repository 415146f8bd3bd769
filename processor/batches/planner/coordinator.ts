import pLimit from 'p-limit'
import type { BatchStatus } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { BatchPace } from '../../../edge/contract/pace.ts'
import type { Control } from '../../../edge/contract/shard.ts'
import { OwnershipLostError } from '../../../infra/store/owned-object.ts'
import { listPages, type ObjectInfo } from '../../../infra/store/store.ts'
import { isOutage, type PlannerLog } from '../../delivery/outages.ts'
import { announcePaces } from '../../fleet/batch-progress.ts'
import { ArrivalRate } from '../../scheduling/arrival-rate.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import { BatchRun } from './batch-run.ts'
import { cleanUpBatch } from './clean-up.ts'
import type { RunDeps } from './deps.ts'
import { type BatchRef, claimBatch, refOfMarker } from './lease.ts'
import { type Senders, sendWindow } from './shard-sender.ts'

/** How often the open batches are looked through, ms. */
const sweepMs = 5_000
/** A batch that has just been made is brought by the stream; only what it lost is left for the sweep, ms. */
const youngMs = 10_000
/** A batch that failed here for a reason of its own is left alone, ms; twice as long each time. */
const firstRestMs = 15_000
const longestRestMs = 10 * 60_000
const claimsAtOnce = 16
const largeManifestsAtOnce = 4
const earlyFilesAtOnce = 4
/** Over how long the rate of shards is taken, ms. */
const rateMs = 15_000
/** For so long it counts what the batches need together, ms. */
const sendersMs = 1_000

export interface CoordinatorOptions
  extends Pick<RunDeps, 'store' | 'buckets' | 'stream' | 'clock' | 'outages' | 'owner'> {
  log: PlannerLog
  /** Whether pruned lines are captioned again when a batch is done before its time; default: not. */
  repay?: boolean
  onLines?(more: number): void
  onShardDone?(): void
  onEnded?(status: BatchStatus): void
}

/** A batch that is looked after, or about to be. */
interface Entry {
  ref: BatchRef
  /** Undefined until it is claimed; what is heard of it until then waits. */
  run: BatchRun | undefined
  heard: Control[]
  stop: AbortController
  ended: Promise<void>
}

/**
 * Looks after the batches of a planner. It learns of them from the stream, and of those that another planner left
 * behind by looking through the store; what it needs to know of a batch is all in the store.
 */
export class Coordinator {
  readonly #options: CoordinatorOptions
  readonly #entries = new Map<string, Entry>()
  readonly #resting = new Map<string, { until: number; restMs: number }>()
  readonly #shardRate = new ArrivalRate({ timeConstantMs: rateMs })
  readonly #claiming = pLimit(claimsAtOnce)
  readonly #reading = pLimit(largeManifestsAtOnce)
  readonly #closing = new AbortController()
  #earlyFiles = 0
  #senders: Senders & { until: number } = { batches: 0, need: 0, until: 0 }
  #announcing: { close(): Promise<void> } | undefined

  constructor(options: CoordinatorOptions) {
    this.#options = options
  }

  /** Batches that are looked after. */
  get activeBatches(): number {
    return this.#runs().length
  }

  /** Those that have lines to run, and how far they are. */
  get paces(): BatchPace[] {
    return this.#runs().flatMap(({ pace }) => pace ?? [])
  }

  /** Takes in what the stream says of a batch. It is only ever a hint: nothing is lost with it but time. */
  handle(control: Control): void {
    const { tenant, batch } = control
    const entry = this.#entries.get(batch) ?? this.#open({ tenant, batch }, { force: true })
    if (entry?.run) tell(entry.run, control)
    else entry?.heard.push(control)
  }

  /** Looks for batches that nobody looks after, until it is closed. */
  async sweep(): Promise<void> {
    const { clock, outages, log } = this.#options
    const { signal } = this.#closing
    const attempt = outages.attempts()
    while (!signal.aborted) {
      await attempt(() => this.#sweepOnce()).catch((err: unknown) => {
        if (!signal.aborted) log.error({ err }, 'open batches could not be looked through; it is tried again')
      })
      await clock.sleep(sweepMs, signal)
    }
  }

  /** Tells the processors how far the batches are, until it is closed. */
  announcePaces(): void {
    this.#announcing ??= announcePaces({ ...this.#options, batches: () => this.paces })
  }

  /** Lets go of all batches; another planner goes on with them. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('The planner shuts down.'))
    const entries = [...this.#entries.values()]
    for (const { stop } of entries) stop.abort(this.#closing.signal.reason)
    await Promise.allSettled([...entries.map(({ ended }) => ended), this.#announcing?.close()])
  }

  async #sweepOnce(): Promise<void> {
    const { store, clock } = this.#options
    for await (const page of listPages(store, keys.openBatches))
      for (const marker of page) this.#find(marker, clock.now())
  }

  #find({ key, lastModified }: ObjectInfo, now: number): void {
    const ref = refOfMarker(key)
    // The store's clock may be another one.
    const young = Math.abs(now - lastModified) < youngMs
    if (!this.#entries.has(ref.batch)) this.#open(ref, { force: false, young })
  }

  #open(ref: BatchRef, how: { force: boolean; young?: boolean }): Entry | undefined {
    const rest = this.#resting.get(ref.batch)
    if (this.#closing.signal.aborted || (rest && this.#options.clock.now() < rest.until)) return undefined
    const entry: Entry = {
      ref,
      run: undefined,
      heard: [],
      stop: new AbortController(),
      ended: Promise.resolve(),
    }
    this.#entries.set(ref.batch, entry)
    entry.ended = this.#lookAfter(entry, how)
      .catch((error: unknown) => this.#failed(entry, error))
      .finally(() => this.#entries.delete(ref.batch))
    return entry
  }

  async #lookAfter(entry: Entry, how: { force: boolean; young?: boolean }): Promise<void> {
    const { store, clock, outages, owner, log, onEnded } = this.#options
    const { ref } = entry
    const { signal } = entry.stop
    const result = await this.#claiming(() => claimBatch(ref, { store, owner, now: clock.now(), ...how }))
    if (result.state === 'held') return
    if (result.state === 'claimed') {
      const run = new BatchRun(result.claim, this.#runDeps())
      entry.run = run
      for (const control of entry.heard) tell(run, control)
      log.info({ ...ref, resumed: result.claim.before !== undefined }, 'batch is looked after')
      try {
        await run.run(signal)
      } catch (error) {
        if (!(error instanceof OwnershipLostError)) await run.release().catch(() => {})
        throw error
      }
      this.#resting.delete(ref.batch)
      onEnded?.(run.batch.status)
      log.info({ ...ref, status: run.batch.status }, 'batch has ended')
    }
    await outages.outlast(() => cleanUpBatch(store, ref), signal)
  }

  #failed({ ref, stop }: Entry, error: unknown): void {
    const { clock, log } = this.#options
    // The next sweep meets an outage too, and tells of it.
    if (stop.signal.aborted || isOutage(error)) return
    if (error instanceof OwnershipLostError) {
      log.info({ ...ref }, 'another planner looks after the batch')
      return
    }
    const last = this.#resting.get(ref.batch)
    const restMs = Math.min(last ? last.restMs * 2 : firstRestMs, longestRestMs)
    this.#resting.set(ref.batch, { until: clock.now() + restMs, restMs })
    log.error({ ...ref, err: error }, 'a batch cannot go on; it is tried again later')
  }

  #runDeps(): RunDeps {
    const { store, buckets, stream, clock, outages, owner, repay, onLines, onShardDone } = this.#options
    return {
      ...{ store, buckets, stream, clock, outages, owner },
      repay: repay ?? false,
      window: (needed) => this.#window(needed),
      inTurn: (read) => this.#reading(read),
      takePlace: () => this.#takePlace(),
      onLines: (more) => onLines?.(more),
      onShardDone: () => {
        this.#shardRate.observe(clock.now())
        onShardDone?.()
      },
    }
  }

  #window(need: number): number {
    const now = this.#options.clock.now()
    if (now >= this.#senders.until) this.#senders = { ...this.#countSenders(now), until: now + sendersMs }
    return sendWindow({ shardsPerSecond: this.#shardRate.perSecond(now), need, senders: this.#senders })
  }

  #countSenders(now: number): Senders {
    const sending = this.#runs().filter((run) => run.sending)
    const needs = sending.map(({ pace }) =>
      pace ? pressingRate([{ deadline: pace.deadline, images: pace.linesLeft }], now) : 0,
    )
    return { batches: sending.length, need: needs.reduce((sum, need) => sum + need, 0) }
  }

  #takePlace(): (() => void) | undefined {
    if (this.#earlyFiles >= earlyFilesAtOnce) return undefined
    this.#earlyFiles++
    return () => void this.#earlyFiles--
  }

  #runs(): BatchRun[] {
    return [...this.#entries.values()].flatMap(({ run }) => (run ? [run] : []))
  }
}

function tell(run: BatchRun, control: Control): void {
  if (control.type === 'shard_done') run.shardDone(control.shard, control.tally, control)
  if (control.type === 'shard_repaid') run.shardRepaid(control.shard, control.tally, control.pending)
  if (control.type === 'batch_cancelled') run.cancel()
}
