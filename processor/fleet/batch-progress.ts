import {
  announceBacklogMs,
  type BatchBacklog,
  forgetBacklogMs,
  type PlannerBacklog,
  plannerBacklogSchema,
} from '../../edge/contract/backlog.ts'
import { keys } from '../../edge/contract/keys.ts'
import { deleteAll, putJson, readAll } from '../../infra/store/json.ts'
import type { ObjectInfo, ObjectStore } from '../../infra/store/store.ts'
import { type RepeatOptions, repeat } from '../../infra/timing.ts'
import type { Clock, Outages, PlannerLog } from '../delivery/outages.ts'

export interface BacklogsOptions extends Pick<RepeatOptions, 'log' | 'sleep'> {
  store: ObjectStore
  /** Unix ms. */
  now(): number
}

/** Backlogs of the batches of all planners, as a processor sees them. */
export interface Backlogs {
  /** Batches with lines to run; none when no planner has announced any for a while. */
  batches(): readonly BatchBacklog[]
  /** @throws StoreUnavailableError */
  refresh(): Promise<void>
  close(): Promise<void>
}

/**
 * Polls the backlogs of all planners. During an outage of the store known backlogs count until they time out.
 * @example createBacklogs({ store, now: Date.now, log }).batches()
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
    const startedAt = now()
    known = await readAll(store, keys.backlogs, {
      read: (value) => plannerBacklogSchema.parse(value),
      onDamaged: (err) => log.warn({ err }, 'a damaged backlog of a planner is ignored'),
      wanted: (info) => !isAbandoned(info, startedAt),
    })
    keepFresh()
  }

  const reading = repeat(refresh, {
    everyMs: announceBacklogMs,
    failure: 'reading the backlogs of batches failed, retrying',
    log,
    sleep,
  })
  return {
    batches() {
      if (now() >= until) keepFresh()
      return batches
    },
    refresh,
    close: () => reading.close(),
  }
}

/** Takes the latest announcement of each batch. */
function merge(backlogs: readonly PlannerBacklog[]): BatchBacklog[] {
  const byBatch = new Map<string, BatchBacklog>()
  for (const backlog of backlogs.toSorted((a, b) => a.seenAt - b.seenAt)) {
    for (const batch of backlog.batches) byBatch.set(batch.batch, batch)
  }
  return [...byBatch.values()]
}

/** Maximum batches announced. */
const maxBatches = 10_000
/** Age from which on a backlog is from a dead planner, ms. */
const abandonedAfterMs = 3_600_000
const isAbandoned = ({ lastModified }: ObjectInfo, now: number) => now - lastModified >= abandonedAfterMs

export interface BacklogAnnouncerOptions {
  store: Pick<ObjectStore, 'put' | 'delete' | 'list'>
  /** Name of the planner. */
  owner: string
  clock: Clock
  outages: Outages
  log: Pick<PlannerLog, 'warn'>
  /** The planner's batches with lines to run. */
  batches(): BatchBacklog[]
}

/**
 * Announces the backlogs of a planner's batches to processors periodically while there are any, and once more when
 * there are none left. Removes backlogs of dead planners.
 */
export function announceBacklogs(options: BacklogAnnouncerOptions): { close(): Promise<void> } {
  const { store, owner, clock, outages, log, batches } = options
  const key = keys.backlog(owner)
  const attempt = outages.attempts()
  let written = false
  let announced = false

  async function announce(): Promise<void> {
    const backlog: PlannerBacklog = { seenAt: clock.now(), batches: mostUrgent(batches()) }
    if (!announced && backlog.batches.length === 0) return
    if (!written) await removeAbandoned(store, backlog.seenAt)
    written = true
    await putJson(store, key, backlog)
    announced = backlog.batches.length > 0
  }

  const announcing = repeat(() => attempt(announce), {
    everyMs: announceBacklogMs,
    failure: 'announcing the backlogs of batches failed, retrying',
    log,
    sleep: (ms, signal) => clock.sleep(ms, signal),
  })
  return {
    async close() {
      await announcing.close()
      // One that stays times out.
      if (written) await store.delete(key).catch(() => {})
    },
  }
}

function mostUrgent(batches: BatchBacklog[]): BatchBacklog[] {
  if (batches.length <= maxBatches) return batches
  return batches.toSorted((a, b) => a.deadline - b.deadline).slice(0, maxBatches)
}

async function removeAbandoned(store: Pick<ObjectStore, 'list' | 'delete'>, now: number): Promise<void> {
  const { objects } = await store.list(keys.backlogs)
  const abandoned = objects.filter((info) => isAbandoned(info, now))
  await deleteAll(
    store,
    abandoned.map(({ key }) => key),
  )
}
