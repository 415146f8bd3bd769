import { keys } from '../../edge/contract/keys.ts'
import { announcePaceMs, type BatchPace, type Pace } from '../../edge/contract/pace.ts'
import { repeat } from '../../infra/repeat.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import type { Clock, Outages, PlannerLog } from '../delivery/outages.ts'

/** Batches that are told of at most. */
const mostBatches = 10_000
/** What was not refreshed for so long is from a planner that died, ms. */
export const abandonedAfterMs = 3_600_000

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
    if (!tidy) await removeAbandoned(store, clock.now())
    tidy = true
    written = true
    await store.put(key, JSON.stringify(pace), { contentType: 'application/json' })
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
  const abandoned = objects.filter(({ lastModified }) => now - lastModified > abandonedAfterMs)
  for (const { key } of abandoned) await store.delete(key)
}
