import pLimit from 'p-limit'
import type { BatchBacklog } from '../../../edge/contract/backlog.ts'
import type { BatchStatus } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { Control } from '../../../edge/contract/shard.ts'
import { FairBudget } from '../../../infra/fair-budget.ts'
import { OwnershipLostError } from '../../../infra/store/owned-object.ts'
import { listPages, type ObjectInfo } from '../../../infra/store/store.ts'
import { isOutage, type PlannerLog } from '../../delivery/outages.ts'
import { announceBacklogs } from '../../fleet/batch-progress.ts'
import { cleanUpBatch } from './clean-up.ts'
import type { PlannerServices } from './context.ts'
import { type BatchRef, type Claim, claimBatch, refOfMarker } from './lease.ts'
import { BatchLifecycle } from './lifecycle.ts'
import { SendWindow } from './send-window.ts'
import type { BatchState } from './state.ts'

/** Time between two scans of the open batches, ms. */
const sweepMs = 5_000
/** Age up to which a batch is left to the planner that gets it from the stream, ms. */
const recentMs = 10_000
/** Delay before a batch that failed on this planner is retried, ms; doubles each time. */
const firstRetryMs = 15_000
const maxRetryMs = 10 * 60_000
const claimsAtOnce = 16
const largeManifests = { size: 4, perOwner: 2 }
const earlyFilesAtOnce = 4

export interface CoordinatorOptions
  extends Omit<PlannerServices, 'sendWindow' | 'manifestPlaces' | 'earlyFilesLimit' | 'signal'> {
  log: PlannerLog
  onEnded?(status: BatchStatus): void
}

/** Batch that this planner runs or tries to claim. */
interface Entry {
  ref: BatchRef
  /** Undefined until it is claimed; control records queue until then. */
  lifecycle: BatchLifecycle | undefined
  queued: Control[]
  ended: Promise<void>
}

/**
 * Runs the batches of a planner. It gets them from the stream, and those that another planner left behind by scanning
 * the store, which has the whole state of a batch.
 */
export class Coordinator {
  readonly #options: CoordinatorOptions
  readonly #services: PlannerServices
  readonly #entries = new Map<string, Entry>()
  readonly #retries = new Map<string, { at: number; delayMs: number }>()
  readonly #claiming = pLimit(claimsAtOnce)
  readonly #closing = new AbortController()
  #sweeping: Promise<void> | undefined
  #announcing: { close(): Promise<void> } | undefined

  constructor(options: CoordinatorOptions) {
    this.#options = options
    this.#services = {
      ...options,
      sendWindow: new SendWindow(() => this.#running()),
      manifestPlaces: new FairBudget(largeManifests),
      earlyFilesLimit: pLimit(earlyFilesAtOnce),
      signal: this.#closing.signal,
    }
  }

  get activeBatches(): number {
    return this.#running().length
  }

  /** Backlogs of batches with lines to run. */
  get backlogs(): BatchBacklog[] {
    const now = this.#options.clock.now()
    return this.#running().flatMap((state) => state.backlog(now) ?? [])
  }

  /** Starts scanning for orphaned batches and announcing backlogs to processors. */
  start(): void {
    this.#sweeping = this.#sweep()
    this.#announcing = announceBacklogs({ ...this.#options, batches: () => this.backlogs })
  }

  /** Handles a control record. It is only a hint: losing one costs only time. */
  handle(control: Control): void {
    const { tenant, batch } = control
    const entry = this.#entries.get(batch) ?? this.#open({ tenant, batch }, { force: true })
    if (entry?.lifecycle) entry.lifecycle.handle(control)
    else entry?.queued.push(control)
  }

  /** Releases all batches to other planners. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('The planner is shutting down.'))
    const ended = [...this.#entries.values()].map((entry) => entry.ended)
    await Promise.allSettled([...ended, this.#announcing?.close(), this.#sweeping])
  }

  async #sweep(): Promise<void> {
    const { clock, outages, log } = this.#options
    const { signal } = this.#closing
    const attempt = outages.attempts()
    while (!signal.aborted) {
      await attempt(() => this.#sweepOnce()).catch((err: unknown) => {
        if (!signal.aborted) log.error({ err }, 'scanning open batches failed, retrying')
      })
      await clock.sleep(sweepMs, signal)
    }
  }

  async #sweepOnce(): Promise<void> {
    const { store, clock } = this.#options
    for await (const page of listPages(store, keys.openBatches))
      for (const marker of page) this.#find(marker, clock.now())
  }

  #find({ key, lastModified }: ObjectInfo, now: number): void {
    const ref = refOfMarker(key)
    // The store's clock may differ.
    const recent = Math.abs(now - lastModified) < recentMs
    if (!this.#entries.has(ref.batch)) this.#open(ref, { force: false, recent })
  }

  #open(ref: BatchRef, options: { force: boolean; recent?: boolean }): Entry | undefined {
    const retry = this.#retries.get(ref.batch)
    if (this.#closing.signal.aborted || (retry && this.#options.clock.now() < retry.at)) return undefined
    const entry: Entry = { ref, lifecycle: undefined, queued: [], ended: Promise.resolve() }
    this.#entries.set(ref.batch, entry)
    entry.ended = this.#run(entry, options)
      .catch((error: unknown) => this.#failed(ref, error))
      .finally(() => this.#entries.delete(ref.batch))
    return entry
  }

  async #run(entry: Entry, options: { force: boolean; recent?: boolean }): Promise<void> {
    const { store, clock, outages, owner } = this.#options
    const { ref } = entry
    const claim = await this.#claiming(() => claimBatch(ref, { store, owner, now: clock.now(), ...options }))
    if (claim === 'held') return
    if (claim !== 'ended') await this.#runClaimed(entry, claim)
    await outages.outlast(() => cleanUpBatch(store, ref), this.#closing.signal)
  }

  async #runClaimed(entry: Entry, claim: Claim): Promise<void> {
    const { log, onEnded } = this.#options
    const { ref, queued } = entry
    const lifecycle = new BatchLifecycle(claim, this.#services)
    entry.lifecycle = lifecycle
    for (const control of queued) lifecycle.handle(control)
    log.info({ ...ref, resumed: claim.before !== undefined }, 'batch claimed')
    try {
      await lifecycle.run()
    } catch (error) {
      if (!(error instanceof OwnershipLostError)) await lifecycle.release().catch(() => {})
      throw error
    }
    this.#retries.delete(ref.batch)
    const { status } = lifecycle.state.batch
    onEnded?.(status)
    log.info({ ...ref, status }, 'batch ended')
  }

  #failed(ref: BatchRef, error: unknown): void {
    const { clock, log } = this.#options
    // The next sweep meets an outage too, and logs it.
    if (this.#closing.signal.aborted || isOutage(error)) return
    if (error instanceof OwnershipLostError) {
      log.info({ ...ref }, 'batch taken over by another planner')
      return
    }
    const last = this.#retries.get(ref.batch)
    const delayMs = Math.min(last ? last.delayMs * 2 : firstRetryMs, maxRetryMs)
    this.#retries.set(ref.batch, { at: clock.now() + delayMs, delayMs })
    log.error({ ...ref, err: error }, 'batch failed on this planner, retrying later')
  }

  #running(): BatchState[] {
    return [...this.#entries.values()].flatMap(({ lifecycle }) => lifecycle?.state ?? [])
  }
}
