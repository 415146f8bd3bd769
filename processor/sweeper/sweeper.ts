import { randomUUID } from 'node:crypto'
import { keys } from '../../edge/contract/keys.ts'
import { noUsage, type StorageArea, type StorageUsage } from '../../edge/contract/usage.ts'
import { deleteAll, getVersioned, swapJson } from '../../infra/store/json.ts'
import { OwnedObject, OwnershipLostError } from '../../infra/store/owned-object.ts'
import { listPages, type ObjectInfo, type ObjectStore } from '../../infra/store/store.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { sleep } from '../../infra/timing.ts'
import { isOutage } from '../delivery/dead-letters.ts'
import { contentOwner, type Rule, rules } from './rules.ts'

export interface SweeperOptions {
  store: ObjectStore
  log: Pick<Logger, 'info' | 'warn'>
  metrics?: Metrics
  /** Time between the starts of two sweeps, ms. */
  intervalMs: number
  /** Time for which results of interactive requests are kept, ms; undefined: for ever. */
  captionRetentionMs: number | undefined
  /** Unix ms. */
  now(): number
  /** Waits; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
}

/** Progress of the sweep, in the store: any planner goes on where another stopped. Times are unix ms. */
export interface SweepState {
  owner: string
  /** Time of the last page; 0 when it was released. */
  heartbeat: number
  startedAt: number
  /** Start of the sweep before. */
  previousStart: number
  /** Set when it is over. */
  endedAt?: number
  /** The rule that is applied; the next key comes after `after`. */
  rule: string
  after?: string
  /** Bytes of the tenant at hand, so far. */
  tally?: { tenant: string; bytes: number }
  /** Objects deleted, by kind. */
  deleted: Record<string, number>
  /** Planners that died at the page that is next. */
  deaths: number
}

/** Keys of a page, and the pause after it, ms: at most 30,000 keys a minute. */
const pageKeys = 500
const pauseMs = 1_000
/** Time without a page after which another planner goes on, ms. */
const deadAfterMs = 120_000
const pollMs = 30_000
/** Deaths after which a page is left out, until the next sweep. */
const maxDeaths = 3
/** A counter that edges change meanwhile is counted again in the next sweep. */
const countTries = 4

/**
 * Deletes what nobody needs any longer, and counts what tenants store: page by page, at a bounded pace. One planner of
 * a fleet sweeps at a time; the place is kept in the store.
 */
export function startSweeper(options: SweeperOptions): { close(): Promise<void> } {
  const closing = new AbortController()
  const sweeping = new Sweeper(options, closing.signal).run()
  return {
    close: () => {
      closing.abort(new Error('The sweeper is shutting down.'))
      return sweeping
    },
  }
}

class Sweeper {
  readonly #options: SweeperOptions
  readonly #signal: AbortSignal
  readonly #owner = randomUUID()
  readonly #measured: ReturnType<typeof measureSweeps> | undefined
  readonly #sleep: NonNullable<SweeperOptions['sleep']>

  constructor(options: SweeperOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#measured = options.metrics && measureSweeps(options.metrics)
    this.#sleep = options.sleep ?? sleep
  }

  async run(): Promise<void> {
    let failed = false
    while (!this.#signal.aborted) {
      try {
        await this.#sweepIfDue()
        failed = false
      } catch (err) {
        if (!failed && !(err instanceof OwnershipLostError))
          this.#options.log.warn({ err, outage: isOutage(err) }, 'sweeping the store failed, retrying')
        failed = true
      }
      await this.#sleep(Math.min(pollMs, this.#options.intervalMs), this.#signal)
    }
  }

  async #sweepIfDue(): Promise<void> {
    const { store, now, intervalMs } = this.#options
    const found = await getVersioned<SweepState>(store, keys.sweep)
    const last = found?.value
    if (last && now() - last.heartbeat < deadAfterMs && last.owner !== this.#owner && !last.endedAt) return
    if (last?.endedAt && now() - last.startedAt < intervalMs) return
    const resumes = last && !last.endedAt
    const state: SweepState = resumes ? this.#resumed(last) : this.#newState(last)
    await this.#sweep(state, new OwnedObject(store, keys.sweep, found?.etag))
  }

  #resumed(last: SweepState): SweepState {
    const died = last.heartbeat > 0 && last.owner !== this.#owner
    return { ...last, owner: this.#owner, deaths: last.deaths + (died ? 1 : 0) }
  }

  #newState(last: SweepState | undefined): SweepState {
    const now = this.#options.now()
    const previousStart = last?.startedAt ?? 0
    return {
      ...{ owner: this.#owner, heartbeat: now, startedAt: now, previousStart },
      ...{ rule: rules[0]!.kind, deleted: {}, deaths: 0 },
    }
  }

  async #sweep(state: SweepState, object: OwnedObject): Promise<void> {
    const { now, log } = this.#options
    const save = (heartbeat = now()) => {
      state.heartbeat = heartbeat
      return object.write(() => JSON.stringify(state))
    }
    await save()
    try {
      const first = rules.findIndex(({ kind }) => kind === state.rule)
      for (let i = Math.max(0, first); i < rules.length; i++) {
        await this.#apply(rules[i]!, state, save)
        state.rule = rules[i + 1]?.kind ?? state.rule
        await save()
      }
      await this.#forgetUncounted(state.startedAt)
      state.endedAt = now()
      await save()
    } catch (error) {
      if (this.#signal.aborted) await save(0).catch(() => {})
      throw error
    }
    this.#measured?.onEnd(state.endedAt)
    const { deleted, startedAt, endedAt } = state
    log.info({ deleted, seconds: Math.round((endedAt - startedAt) / 1000) }, 'store swept')
  }

  async #apply(rule: Rule, state: SweepState, save: () => Promise<void>): Promise<void> {
    const { store, now, captionRetentionMs } = this.#options
    for (;;) {
      this.#signal.throwIfAborted()
      const { objects, continuation } = await store.list(rule.prefix, {
        limit: pageKeys,
        startAfter: state.after,
      })
      const { previousStart } = state
      const sweep = { store, now: now(), previousStart, captionRetentionMs }
      const outdated = state.deaths < maxDeaths ? await rule.outdated(objects, sweep) : []
      state.deaths = 0
      // What refers to others goes last, so that an interrupted deletion is repeated.
      const [contents, infos] = [outdated.filter((key) => !isInfo(key)), outdated.filter(isInfo)]
      await deleteAll(store, contents)
      await deleteAll(store, infos)
      this.#measured?.onDeleted(rule.kind, outdated.length)
      state.deleted[rule.kind] = (state.deleted[rule.kind] ?? 0) + outdated.length
      if (rule.area) await this.#count(objects, new Set(outdated), rule.area, state)
      state.after = objects.at(-1)?.key
      if (continuation === undefined) break
      await save()
      await this.#sleep(pauseMs, this.#signal)
    }
    if (rule.area) await this.#setUsage(rule.area, state)
    state.after = undefined
  }

  /** Adds up the bytes of each tenant, whose keys follow each other. */
  async #count(objects: ObjectInfo[], deleted: Set<string>, area: StorageArea, state: SweepState) {
    for (const { key, size } of objects) {
      const tenant = contentOwner(key)
      if (tenant === undefined || deleted.has(key)) continue
      if (state.tally?.tenant !== tenant) {
        await this.#setUsage(area, state)
        state.tally = { tenant, bytes: 0 }
      }
      state.tally.bytes += size
    }
  }

  async #setUsage(area: StorageArea, state: SweepState): Promise<void> {
    const { tally, startedAt } = state
    state.tally = undefined
    if (tally) await this.#change(tally.tenant, (usage) => counted(usage, area, tally.bytes, startedAt))
  }

  /** Tenants of which no object was met store nothing any longer. */
  async #forgetUncounted(startedAt: number): Promise<void> {
    for await (const page of listPages(this.#options.store, keys.usages)) {
      for (const { key } of page) {
        const tenant = key.slice(keys.usages.length, -'.json'.length)
        await this.#change(tenant, (usage) =>
          (['files', 'uploads'] as const)
            .filter((area) => (usage.counted?.[area] ?? 0) < startedAt)
            .reduce((sum, area) => counted(sum, area, 0, startedAt), usage),
        )
      }
    }
  }

  async #change(tenant: string, to: (usage: StorageUsage) => StorageUsage): Promise<void> {
    const { store } = this.#options
    for (let tries = 0; tries < countTries; tries++) {
      const found = await getVersioned<StorageUsage>(store, keys.usage(tenant))
      const usage = found?.value ?? noUsage
      const changed = to(usage)
      if (changed === usage) return
      if ((await swapJson(store, keys.usage(tenant), changed, found?.etag)) !== undefined) return
    }
  }
}

const isInfo = (key: string) => key.includes('/info/')

const counted = (usage: StorageUsage, area: StorageArea, bytes: number, at: number): StorageUsage => ({
  ...usage,
  [area]: bytes,
  counted: { ...usage.counted, [area]: at },
})

export function measureSweeps(metrics: Metrics) {
  const deleted = metrics.counter({
    name: 'swept_objects_total',
    help: 'Objects deleted because nobody needs them any longer, by kind.',
    labelNames: ['kind'],
  })
  const ended = metrics.gauge({
    name: 'sweep_ended_seconds',
    help: 'Time at which this planner finished a sweep of the store, unix seconds.',
  })
  return {
    onDeleted: (kind: string, count: number) => deleted.inc({ kind }, count),
    onEnd: (at: number) => ended.set(Math.round(at / 1000)),
  }
}
