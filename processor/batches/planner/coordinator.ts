import pLimit from 'p-limit'
import type { BatchBacklog } from '../../../edge/contract/backlog.ts'
import type { BatchStatus } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { Control } from '../../../edge/contract/shard.ts'
import { FairBudget } from '../../../infra/fair-budget.ts'
import { OwnershipLostError } from '../../../infra/store/owned-object.ts'
import { listPages, type ObjectInfo } from '../../../infra/store/store.ts'
import { Isolation } from '../../delivery/isolation.ts'
import { isOutage, type PlannerLog } from '../../delivery/outages.ts'
import { announceBacklogs } from '../../fleet/batch-progress.ts'
import { cleanUpBatch } from './clean-up.ts'
import type { PlannerServices } from './context.ts'
import {
  type BatchRef,
  type Claim,
  type ClaimOptions,
  type ClaimResult,
  claimBatch,
  noteSurvival,
  refOfMarker,
} from './lease.ts'
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
  /** What the process has in hand; default: only these batches. */
  isolation?: Isolation
  /** Time for which others wait for a batch that is run alone, and it for them, ms; default 60,000. */
  holdMs?: number
  onEnded?(status: BatchStatus): void
}

type ClaimHow = Pick<ClaimOptions, 'force' | 'recent' | 'alone'>
type Begun = Exclude<ClaimResult, Claim> | { running: Promise<void> }

/** Time for which others wait for a batch that is run alone, and it for them, ms. */
const longestTrialMs = 60_000

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
  /** Batch to the time of this planner's last claim, unix ms, while it has not ended here. */
  readonly #claims = new Map<string, number>()
  readonly #claiming = pLimit(claimsAtOnce)
  readonly #isolation: Isolation
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
    this.#isolation = options.isolation ?? new Isolation()
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

  #open(ref: BatchRef, options: ClaimHow): Entry | undefined {
    const retry = this.#retries.get(ref.batch)
    if (this.#closing.signal.aborted || (retry && this.#options.clock.now() < retry.at)) return undefined
    const entry: Entry = { ref, lifecycle: undefined, queued: [], ended: Promise.resolve() }
    this.#entries.set(ref.batch, entry)
    entry.ended = this.#run(entry, options)
      .catch((error: unknown) => this.#failed(ref, error))
      .finally(() => this.#entries.delete(ref.batch))
    return entry
  }

  async #run(entry: Entry, options: ClaimHow): Promise<void> {
    const { store, outages } = this.#options
    const { signal } = this.#closing
    const { ref } = entry
    let begun = await this.#isolation.beside(() => this.#begin(entry, options), signal)
    if (begun === 'suspect') begun = await this.#beginAlone(entry, options)
    if (begun === 'held' || begun === 'suspect') return
    if (begun !== 'ended') await begun.running
    await outages.outlast(() => cleanUpBatch(store, ref), signal)
  }

  /** Claims a batch, and begins to run it. Resolves when its input has been read. */
  async #begin(entry: Entry, options: ClaimHow): Promise<Begun> {
    const { ref } = entry
    const claim = await this.#claiming(() => this.#claim(ref, options))
    if (typeof claim === 'string') return claim
    const running = this.#runClaimed(entry, claim)
    // Whoever waits for the batch meets the failure.
    running.catch(() => {})
    await entry.lifecycle?.planned
    return { running }
  }

  /** Begins a batch at which planners died, apart from all else in this process while that tells who is at fault. */
  #beginAlone(entry: Entry, options: ClaimHow): Promise<Begun> {
    const { log, holdMs = longestTrialMs } = this.#options
    const begin = async (hasCompany: boolean): Promise<Begun> => {
      const begun = await this.#begin(entry, { ...options, alone: hasCompany ? 'company' : 'alone' })
      const attempt = entry.lifecycle?.state.attempt
      if (typeof begun === 'string' || attempt?.attempt.phase !== 'ending' || attempt.givenUp) return begun
      await Promise.allSettled([begun.running])
      return begun
    }
    log.warn({ ...entry.ref }, 'planners died at this batch, so it is run alone')
    return this.#isolation.alone(begin, {
      holdMs,
      onCompany: async () => entry.lifecycle?.setCompany(),
      signal: this.#closing.signal,
    })
  }

  async #claim(ref: BatchRef, options: ClaimHow): Promise<ClaimResult> {
    const { store, clock, owner } = this.#options
    const ownSince = this.#claims.get(ref.batch)
    const claim = await claimBatch(ref, { store, owner, ownSince, now: clock.now(), ...options })
    if (typeof claim === 'object') this.#claims.set(ref.batch, claim.since)
    return claim
  }

  async #runClaimed(entry: Entry, claim: Claim): Promise<void> {
    const { store, log, onEnded } = this.#options
    const { ref, queued } = entry
    const lifecycle = new BatchLifecycle(claim, this.#services)
    entry.lifecycle = lifecycle
    for (const control of queued) lifecycle.handle(control)
    log.info({ ...ref, resumed: claim.before !== undefined }, 'batch claimed')
    try {
      await lifecycle.run()
    } catch (error) {
      if (error instanceof OwnershipLostError) await noteSurvival(store, ref, claim.since).catch(() => {})
      else await lifecycle.release().catch(() => {})
      throw error
    }
    this.#retries.delete(ref.batch)
    this.#claims.delete(ref.batch)
    const { status } = lifecycle.state.batch
    onEnded?.(status)
    log.info({ ...ref, status }, 'batch ended')
  }

  #failed(ref: BatchRef, error: unknown): void {
    const { clock, log } = this.#options
    // The next sweep meets an outage too, and logs it.
    if (this.#closing.signal.aborted || isOutage(error)) return
    if (error instanceof OwnershipLostError) {
      this.#claims.delete(ref.batch)
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
