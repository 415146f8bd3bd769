import { keys } from '../../edge/contract/keys.ts'
import { announcePaceMs, type BatchPace, forgetPaceMs, type Pace } from '../../edge/contract/pace.ts'
import { deleteAll, putJson, readAll } from '../../infra/store/json.ts'
import type { ObjectInfo, ObjectStore } from '../../infra/store/store.ts'
import { type RepeatOptions, repeat } from '../../infra/timing.ts'
import type { Clock, Outages, PlannerLog } from '../delivery/outages.ts'

export interface PacesOptions extends Pick<RepeatOptions, 'log' | 'sleep'> {
  store: ObjectStore
  /** Unix ms. */
  now(): number
}

/** What planners say of their batches, as a processor knows it. */
export interface Paces {
  /** Every batch that has lines to run, once; none when no planner was heard of for a while. */
  batches(): readonly BatchPace[]
  /** Looks now. @throws StoreUnavailableError */
  refresh(): Promise<void>
  close(): Promise<void>
}

/**
 * Reads every few seconds how far the batches of all planners are. While the store is away what was known counts for as
 * long as if it had just been said.
 *
 * @example
 * const paces = createPaces({ store, now: Date.now, log })
 * const linesLeft = paces.batches().map((batch) => batch.linesLeft)
 */
export function createPaces({ store, now, log, sleep }: PacesOptions): Paces {
  let known: Pace[] = []
  let batches: BatchPace[] = []
  /** When the first of them is forgotten, unix ms. */
  let until = Number.POSITIVE_INFINITY

  function keepFresh(): void {
    known = known.filter(({ seenAt }) => now() - seenAt < forgetPaceMs)
    batches = merge(known)
    until = Math.min(...known.map(({ seenAt }) => seenAt + forgetPaceMs))
  }

  async function refresh(): Promise<void> {
    const startedAt = now()
    known = await readAll<Pace>(store, keys.paces, (pace) => !isAbandoned(pace, startedAt))
    keepFresh()
  }

  const looking = repeat(refresh, {
    everyMs: announcePaceMs,
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

/** Of a batch that has changed hands, what was said last counts. */
function merge(paces: readonly Pace[]): BatchPace[] {
  const byBatch = new Map<string, BatchPace>()
  for (const pace of paces.toSorted((a, b) => a.seenAt - b.seenAt)) {
    for (const batch of pace.batches) byBatch.set(batch.batch, batch)
  }
  return [...byBatch.values()]
}

/** Batches that are told of at most. */
const mostBatches = 10_000
/** What was not refreshed for so long is from a planner that died, ms. */
const abandonedAfterMs = 3_600_000
const isAbandoned = ({ lastModified }: ObjectInfo, now: number) => now - lastModified >= abandonedAfterMs

export interface PaceAnnouncerOptions {
  store: Pick<ObjectStore, 'put' | 'delete' | 'list'>
  /** The planner. */
  owner: string
  clock: Clock
  outages: Outages
  log: Pick<PlannerLog, 'warn'>
  /** Those that the planner looks after and that have lines to run. */
  batches(): BatchPace[]
}

/**
 * Tells the processors of the batches of a planner every few seconds while there are any, and once that there are none
 * any more, until it is closed. What planners left behind that died long ago is removed.
 */
export function announcePaces(options: PaceAnnouncerOptions): { close(): Promise<void> } {
  const { store, owner, clock, outages, log, batches } = options
  const key = keys.pace(owner)
  const attempt = outages.attempts()
  let written = false
  let told = false
  let tidy = false

  async function announce(): Promise<void> {
    const pace: Pace = { seenAt: clock.now(), batches: mostUrgent(batches()) }
    if (!told && pace.batches.length === 0) return
    if (!tidy) await removeAbandoned(store, pace.seenAt)
    tidy = true
    written = true
    await putJson(store, key, pace)
    told = pace.batches.length > 0
  }

  const announcing = repeat(() => attempt(announce), {
    everyMs: announcePaceMs,
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

function mostUrgent(batches: BatchPace[]): BatchPace[] {
  if (batches.length <= mostBatches) return batches
  return batches.toSorted((a, b) => a.deadline - b.deadline).slice(0, mostBatches)
}

async function removeAbandoned(store: Pick<ObjectStore, 'list' | 'delete'>, now: number): Promise<void> {
  const { objects } = await store.list(keys.paces)
  const abandoned = objects.filter((pace) => isAbandoned(pace, now))
  await deleteAll(
    store,
    abandoned.map(({ key }) => key),
  )
}
