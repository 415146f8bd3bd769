import { keys } from '../../edge/contract/keys.ts'
import { announcePaceMs, type BatchPace, forgetPaceMs, type Pace } from '../../edge/contract/pace.ts'
import { repeat } from '../../infra/repeat.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import { abandonedAfterMs } from './pace-announcer.ts'

export interface PacesOptions {
  store: ObjectStore
  /** Unix ms. */
  now(): number
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Waits between two looks; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
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
    known = await readPaces(store, now())
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

async function readPaces(store: ObjectStore, now: number): Promise<Pace[]> {
  const paces: Pace[] = []
  let continuation: string | undefined
  do {
    const page = await store.list(keys.paces, { continuation })
    const recent = page.objects.filter(({ lastModified }) => now - lastModified < abandonedAfterMs)
    const read = await Promise.all(recent.map(({ key }) => getJson<Pace>(store, key)))
    paces.push(...read.filter((pace) => pace !== undefined))
    continuation = page.continuation
  } while (continuation !== undefined)
  return paces
}

/** Of a batch that has changed hands, what was said last counts. */
function merge(paces: readonly Pace[]): BatchPace[] {
  const byBatch = new Map<string, BatchPace>()
  for (const pace of paces.toSorted((a, b) => a.seenAt - b.seenAt)) {
    for (const batch of pace.batches) byBatch.set(batch.batch, batch)
  }
  return [...byBatch.values()]
}
