import {
  announceBacklogMs,
  type BatchBacklog,
  forgetBacklogMs,
  type PlannerBacklog,
} from '../../edge/contract/backlog.ts'
import { keys } from '../../edge/contract/keys.ts'
import { repeat } from '../../infra/repeat.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { Clock, Outages, PlannerLog } from '../delivery/outages.ts'

export interface BacklogsOptions {
  store: ObjectStore
  /** Unix ms. */
  now(): number
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Waits between two looks; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
}

/** What planners say of their batches, as a processor knows it. */
export interface Backlogs {
  /** Every batch that has lines to run, once; none when no planner was heard of for a while. */
  batches(): readonly BatchBacklog[]
  /** Looks now. @throws StoreUnavailableError */
  refresh(): Promise<void>
  close(): Promise<void>
}

/**
 * Reads every few seconds how far the batches of all planners are. While the store is away what was known counts for as
 * long as if it had just been said.
 *
 * @example
 * const backlogs = createBacklogs({ store, now: Date.now, log })
 * const linesLeft = backlogs.batches().map((batch) => batch.linesLeft)
 */
export function createBacklogs({ store, now, log, sleep }: BacklogsOptions): Backlogs {
  let known: PlannerBacklog[] = []
  let batches: BatchBacklog[] = []
  /** When the first of them is forgotten, unix ms. */
  let until = Number.POSITIVE_INFINITY

  function keepFresh(): void {
    known = known.filter(({ seenAt }) => now() - seenAt < forgetBacklogMs)
    batches = merge(known)
    until = Math.min(...known.map(({ seenAt }) => seenAt + forgetBacklogMs))
  }

  async function refresh(): Promise<void> {
    known = await readBacklogs(store, now())
    keepFresh()
  }

  const looking = repeat(refresh, {
    everyMs: announceBacklogMs,
    failure: 'how far batches are cannot be read; it is tried again',
    log,
    sleep,
  })
  return {
    batches() {
      if (now() >= until) keepFresh()
      return batches
    },
    refresh,
    close: () => looking.close(),
  }
}

async function readBacklogs(store: ObjectStore, now: number): Promise<PlannerBacklog[]> {
  const backlogs: PlannerBacklog[] = []
  let continuation: string | undefined
  do {
    const page = await store.list(keys.backlogs, { continuation })
    const recent = page.objects.filter(({ lastModified }) => now - lastModified < abandonedAfterMs)
    const read = await Promise.all(recent.map(({ key }) => getJson<PlannerBacklog>(store, key)))
    backlogs.push(...read.filter((backlog) => backlog !== undefined))
    continuation = page.continuation
  } while (continuation !== undefined)
  return backlogs
}

/** Of a batch that has changed hands, what was said last counts. */
function merge(backlogs: readonly PlannerBacklog[]): BatchBacklog[] {
  const byBatch = new Map<string, BatchBacklog>()
  for (const backlog of backlogs.toSorted((a, b) => a.seenAt - b.seenAt)) {
    for (const batch of backlog.batches) byBatch.set(batch.batch, batch)
  }
  return [...byBatch.values()]
}

/** Batches that are told of at most. */
const mostBatches = 10_000
/** What was not refreshed for so long is from a planner that died, ms. */
const abandonedAfterMs = 3_600_000

export interface BacklogAnnouncerOptions {
  store: Pick<ObjectStore, 'put' | 'delete' | 'list'>
  /** The planner. */
  owner: string
  clock: Clock
  outages: Outages
  log: Pick<PlannerLog, 'warn'>
  /** Those that the planner looks after and that have lines to run. */
  batches(): BatchBacklog[]
}

/**
 * Tells the processors of the batches of a planner every few seconds while there are any, and once that there are none
 * any more, until it is closed. What planners left behind that died long ago is removed.
 */
export function announceBacklogs(options: BacklogAnnouncerOptions): { close(): Promise<void> } {
  const { store, owner, clock, outages, log, batches } = options
  const key = keys.backlog(owner)
  const attempt = outages.attempts()
  let written = false
  let told = false
  let tidy = false

  async function announce(): Promise<void> {
    const backlog: PlannerBacklog = { seenAt: clock.now(), batches: mostUrgent(batches()) }
    if (!told && backlog.batches.length === 0) return
    if (!tidy) await removeAbandoned(store, clock.now())
    tidy = true
    written = true
    await store.put(key, JSON.stringify(backlog), { contentType: 'application/json' })
    told = backlog.batches.length > 0
  }

  const announcing = repeat(() => attempt(announce), {
    everyMs: announceBacklogMs,
    failure: 'processors cannot be told how far batches are; it is tried again',
    log,
    sleep: (ms, signal) => clock.sleep(ms, signal),
  })
  return {
    async close() {
      await announcing.close()
      // One that stays is forgotten by its age.
      if (written) await store.delete(key).catch(() => {})
    },
  }
}

function mostUrgent(batches: BatchBacklog[]): BatchBacklog[] {
  if (batches.length <= mostBatches) return batches
  return batches.toSorted((a, b) => a.deadline - b.deadline).slice(0, mostBatches)
}

async function removeAbandoned(store: Pick<ObjectStore, 'list' | 'delete'>, now: number): Promise<void> {
  const { objects } = await store.list(keys.backlogs)
  const abandoned = objects.filter(({ lastModified }) => now - lastModified > abandonedAfterMs)
  for (const { key } of abandoned) await store.delete(key)
}
