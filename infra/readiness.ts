import { remember } from './remembered.ts'
import type { ObjectStore } from './store/store.ts'
import { within } from './timing.ts'

interface Check {
  ok: boolean
  message?: string
}

export interface Readiness {
  ready: boolean
  checks: Record<string, Check>
}

/** Check of one dependency: rejects when it is not ready. */
export type Probe = () => unknown

export interface ReadinessOptions {
  /** A probe that takes longer counts as failed, ms; default 3000. */
  timeoutMs?: number
  /** Time for which a result is cached, ms; default 2000. */
  keepMs?: number
  /** Ms from any fixed point. */
  now?: () => number
}

/**
 * Creates a readiness check over all dependencies of a process, with cached results.
 *
 * @example
 * const readiness = createReadiness({ store: () => store.head('ready') })
 * await readiness() // { ready: false, checks: { store: { ok: false, message: 'The object store ...' } } }
 */
export function createReadiness(
  probes: Record<string, Probe>,
  { timeoutMs = 3000, keepMs = 2000, now = () => performance.now() }: ReadinessOptions = {},
): () => Promise<Readiness> {
  const load = async (): Promise<Readiness> => {
    const entries = Object.entries(probes).map(
      async ([name, probe]) => [name, await check(probe, timeoutMs)] as const,
    )
    const checks = Object.fromEntries(await Promise.all(entries))
    return { ready: Object.values(checks).every(({ ok }) => ok), checks }
  }
  const readiness = remember({ load, freshMs: () => keepMs, now, shared: true })
  return () => readiness('')
}

/**
 * The same for strangers: the reasons, which name hosts, go to the log, once for each change.
 */
export function withoutReasons(
  readiness: () => Readiness | Promise<Readiness>,
  log: { warn(fields: Record<string, unknown>, message: string): void },
): () => Promise<Readiness> {
  let wasReady = true
  return async () => {
    const { ready, checks } = await readiness()
    if (wasReady && !ready) log.warn({ checks }, 'not ready')
    wasReady = ready
    const states = Object.entries(checks).map(([name, { ok }]) => [name, { ok }])
    return { ready, checks: Object.fromEntries(states) }
  }
}

/** Time for which a write that succeeded counts, and one that failed, ms. */
const writtenMs = 10_000
const unwrittenMs = 2_000
/** Enough to fail where the last kilobytes are left. */
const probeBytes = 16 * 1024

/**
 * Creates a probe that writes: a store that can be read and not written (a full disk, say) is not ready. The callers
 * share a write every 10 s.
 *
 * @example createReadiness({ store: storeProbe(store, { key: 'ready', now: Date.now }) })
 */
export function storeProbe(
  store: Pick<ObjectStore, 'put'>,
  { key, now }: { key: string; now(): number },
): Probe {
  const write = () => store.put(key, new Uint8Array(probeBytes))
  const failureOf = remember<Error | undefined>({
    load: () => write().then(() => undefined, asError),
    freshMs: (failure) => (failure ? unwrittenMs : writtenMs),
    now,
    shared: true,
  })
  return async () => {
    const failure = await failureOf('')
    if (failure) throw failure
  }
}

const asError = (error: unknown) => (error instanceof Error ? error : new Error(String(error)))

async function check(probe: Probe, timeoutMs: number): Promise<Check> {
  try {
    const probed = async () => probe()
    await within(timeoutMs, probed(), () => new Error(`did not answer within ${timeoutMs} ms`))
    return { ok: true }
  } catch (error) {
    return { ok: false, message: error instanceof Error ? error.message : String(error) }
  }
}
