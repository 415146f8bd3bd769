import { setTimeout as delay } from 'node:timers/promises'
import { attacks } from '../hostile/attacks.ts'
import { refusedBucket } from '../hostile/refusing-store.ts'
import { createCaller } from './caller.ts'
import { perform } from './faults.ts'
import { type ChaosFleet, startFleet } from './fleet.ts'
import { type HonestLoad, startHonestLoad } from './honest.ts'
import { type HostileTenant, startHostileTenant } from './hostile-tenant.ts'
import type { Outage } from './latency.ts'
import { findLeaks, type Held, most } from './leaks.ts'
import { clock, describeFault, describePlan, type Plan, planStorm, type Role } from './plan.ts'
import { openScenery, type Scenery } from './scenery.ts'
import { isClean, judge, type Verdict } from './verdict.ts'
import { holdingsNow, watchFleet } from './watch.ts'

export interface ChaosOptions {
  /** Of calm and storm together; starting, waiting for the last answers and settling come on top. */
  minutes: number
  seed: number
  /** More faults, and no time to measure honest callers in. */
  hurried?: boolean
  /** Ends the run early; what was observed until then is judged. */
  signal?: AbortSignal
  /** How many times the calm p99 that of honest callers in the storm may be; absent: it is only measured. */
  maxRatio?: number
  log?(line: string): void
}

export interface ChaosResult {
  verdict: Verdict
  /** The fields of the JSON line. */
  summary: Record<string, unknown>
}

const roles: Record<Role, number> = { edge: 2, planner: 2, processor: 2 }
const tenants = ['acme', 'umbrella', 'initech']
const hostileTenant = 'mallory'
const pictureCount = 24
/** For two cores that do everything else as well. */
const load = { rate: 3, batchLines: [10, 50] } as const
/** How long the last answers are waited for after the storm, ms. */
const patienceMs = 180_000
/** Within this what was used is given back, ms: idle connections close, memory is collected. */
const settleMs = 90_000

/** A fault that cannot begin for so long is left out, ms: the part still comes back from the last one. */
const longestDelayMs = 15_000

/** The calm is a fifth of the time, 15 s to two minutes. */
const calmOf = (totalMs: number) => Math.min(Math.max(0.2 * totalMs, 15_000), 120_000)

/** Runs a fleet through a calm and a storm, and judges what its callers saw and what its processes still hold. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { minutes, seed, hurried, signal = new AbortController().signal, log = console.log } = options
  const crashed: string[] = []
  const startMs = performance.now()
  const say = (text: string) => log(`${clock(performance.now() - startMs)}  ${text}`)
  const onFault = (name: string, what: string) => {
    crashed.push(`${name} ${what}, at ${clock(performance.now() - startMs)}`)
    say(`${name} ${what}`)
  }
  log('Starting Kafka, S3 and the fleet ...')
  const fleet = await startFleet({ roles, onFault })
  const calmMs = calmOf(60_000 * minutes)
  const stormMs = Math.max(0, 60_000 * minutes - calmMs)
  const plan = planStorm({ seed, stormMs, hurried, roles, can: fleet.can, hostile: Object.keys(attacks) })
  log(describePlan(plan))
  log(`Logs of the processes are in ${fleet.folder}.`)
  let keepLogs = true
  const run = new Run(fleet, { seed, signal, say, plan, calmMs })
  try {
    const observed = await run.all()
    const { verdict, latency, lines } = judge({
      ...observed,
      crashed,
      interrupted: signal.aborted,
      maxRatio: signal.aborted ? undefined : options.maxRatio,
    })
    keepLogs = !isClean(verdict)
    const { faults, hostilities } = plan
    const counts = Object.fromEntries(Object.entries(verdict).map(([kind, { length }]) => [kind, length]))
    const { outOfOrder: out_of_order, ...others } = counts
    const summary = {
      chaos: 'turbine',
      minutes,
      seed,
      interrupted: signal.aborted || undefined,
      faults: faults.length,
      attacks: hostilities.length,
      requests: observed.journal.asks.length,
      batches: observed.journal.batches.length,
      lines,
      ...others,
      out_of_order,
      // In a hurry there is hardly a moment without an outage.
      ...(!hurried && {
        honest_p99_calm_ms: latency.calmMs,
        honest_p99_ms: latency.stormMs,
        honest_p99_ratio: latency.ratio,
        honest_calm_requests: latency.calmCount,
        honest_undisturbed_requests: latency.stormCount,
        live_max_ms: observed.liveMaxMs,
      }),
      rss_calm_mb: residentOf(observed.calm),
      rss_peak_mb: residentOf(observed.peak),
      rss_after_mb: residentOf(observed.after),
    }
    return { verdict, summary }
  } finally {
    await run.close()
    await fleet.dispose({ keepLogs })
  }
}

/** The most of each role, MB. */
function residentOf(held: readonly Held[]): Record<string, number> {
  const byRole = Map.groupBy(held, ({ role }) => role)
  return Object.fromEntries(
    [...byRole].map(([role, all]) => [role, Math.round(most(all.map(({ holdings }) => holdings)).rssMb)]),
  )
}

interface RunOptions {
  seed: number
  signal: AbortSignal
  say(text: string): void
  plan: Plan
  calmMs: number
}

/** One run on a fleet that is ready. */
class Run {
  readonly #fleet: ChaosFleet
  readonly #options: RunOptions
  #scenery: Scenery | undefined
  #hostile: HostileTenant | undefined
  readonly #patience = new AbortController()
  readonly #closed = new AbortController()
  /** What is being done to each part; the next fault of a part waits for it. */
  readonly #turns = new Map<string, Promise<unknown>>()
  #hostileKey = ''

  constructor(fleet: ChaosFleet, { signal, ...options }: RunOptions) {
    this.#fleet = fleet
    this.#options = { ...options, signal: AbortSignal.any([signal, this.#closed.signal]) }
  }

  async all() {
    const { say, plan, calmMs } = this.#options
    const load = await this.#begin()
    say(`calm for ${Math.round(calmMs / 1000)} s`)
    const calmWatch = watchFleet(this.#fleet)
    await this.#pause(calmMs)
    await calmWatch.close()
    const stormFromMs = performance.now()
    say(`storm for ${Math.round(plan.stormMs / 1000)} s`)
    const stormWatch = watchFleet(this.#fleet)
    const outages = await this.#storm(stormFromMs)
    say('the storm is over; waiting for the last answers')
    await this.#lastAnswers(load)
    await stormWatch.close()
    say('settling')
    const { leaked, after } = await this.#settle(calmWatch.held)
    const undisturbed = stormWatch.pulses.filter(
      ({ fromMs, toMs }) => !outages.some((outage) => fromMs <= outage.toMs && outage.fromMs <= toMs),
    )
    const liveMaxMs = Math.max(0, ...undisturbed.map(({ fromMs, toMs }) => toMs - fromMs))
    const { journal } = load
    return {
      ...{ journal, stormFromMs, outages, leaked, liveMaxMs },
      attacks: this.#hostile?.outcomes ?? {},
      ...{ calm: calmWatch.held, peak: stormWatch.held, after },
    }
  }

  async close(): Promise<void> {
    this.#closed.abort()
    this.#patience.abort()
    await this.#hostile?.close()
    this.#scenery?.close()
  }

  /** Prepares tenants and pictures, and starts the honest load. */
  async #begin(): Promise<HonestLoad> {
    const fleet = this.#fleet
    const { seed, say } = this.#options
    const bucket = `pictures-${Date.now().toString(36)}`
    await fleet.createBucket(bucket)
    const keys: Record<string, string> = {}
    for (const tenant of [...tenants, hostileTenant]) {
      keys[tenant] = await fleet.keyOf(tenant)
      await fleet.command(['tenants', 'grant', tenant, '--read', `s3://${bucket}/`])
    }
    for (const right of ['--read', '--write'])
      await fleet.command(['tenants', 'grant', hostileTenant, right, `s3://${refusedBucket}/`])
    const { [hostileTenant]: hostileKey, ...honestKeys } = keys
    const scenery = await openScenery(pictureCount, { name: bucket, store: fleet.bucket(bucket) })
    this.#scenery = scenery
    this.#hostile = await startHostileTenant({ edges: fleet.edges, apiKey: hostileKey! })
    this.#hostileKey = hostileKey!
    const known = await this.#knownPictures(scenery, honestKeys[tenants[0]!]!)
    say(`the model knows ${known.length} of ${pictureCount} pictures`)
    return startHonestLoad({
      ...load,
      seed,
      edges: fleet.edges,
      tenants: honestKeys,
      scenery: { ...scenery, pictures: known },
      patience: this.#patience.signal,
    })
  }

  /** Those whose caption the model gets right: of the others nobody could say whether an answer is the right one. */
  async #knownPictures(scenery: Scenery, apiKey: string) {
    const { edges } = this.#fleet
    const caller = createCaller({ edges, apiKey, patience: this.#patience.signal, onAttempt: () => {} })
    const known: Scenery['pictures'] = []
    for (const picture of scenery.pictures) {
      const { status, text } = await caller.call({
        method: 'POST',
        path: '/v1/captions?max_prune=0',
        headers: { 'content-type': 'image/jpeg' },
        body: () => picture.jpeg,
      })
      const { caption } = JSON.parse(text) as { caption?: string }
      if (status === 200 && caption === picture.truth) known.push(picture)
    }
    if (known.length < 4) throw new Error(`The model knows only ${known.length} of ${pictureCount} pictures.`)
    return known
  }

  async #storm(stormFromMs: number): Promise<Outage[]> {
    const { plan, say, signal } = this.#options
    const outages: Outage[] = []
    const at = async (atMs: number, act: () => Promise<unknown>) => {
      await this.#pause(stormFromMs + atMs - performance.now())
      if (!signal.aborted) await act()
    }
    const faults = plan.faults.map((fault) =>
      at(fault.atMs, async () => {
        const part = `${fault.target}-${fault.index}`
        const turn = (this.#turns.get(part) ?? Promise.resolve()).then(async () => {
          if (performance.now() - stormFromMs - fault.atMs > longestDelayMs) {
            say(`left out, since it is still busy with the last: ${describeFault(fault)}`)
            return
          }
          say(describeFault(fault))
          const outage = await perform(this.#fleet, fault, signal)
          if (fault.graceMs > 0) outages.push(outage)
        })
        this.#turns.set(part, turn)
        await turn
      }),
    )
    const attacking = plan.hostilities.map(({ atMs, forMs, name }) =>
      at(atMs, () => this.#hostile!.attack(name, forMs)),
    )
    await Promise.all([...faults, ...attacking, at(plan.stormMs, async () => {})])
    return outages
  }

  async #lastAnswers(load: HonestLoad): Promise<void> {
    const { signal } = this.#options
    const end = () => this.#patience.abort()
    const timer = setTimeout(end, signal.aborted ? 0 : patienceMs)
    signal.addEventListener('abort', end)
    await Promise.all([load.stop(), this.#cancelHostileBatches().catch(() => {})])
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
  }

  /** What the hostile tenant has left behind is to end as well, but nobody waits for it. */
  async #cancelHostileBatches(): Promise<void> {
    const caller = createCaller({
      edges: this.#fleet.edges,
      apiKey: this.#hostileKey,
      patience: this.#patience.signal,
      onAttempt: () => {},
    })
    const { text } = await caller.call({ path: '/v1/batches?limit=100' })
    const { data } = JSON.parse(text) as { data: { id: string; status: string }[] }
    for (const { id, status } of data)
      if (status === 'validating' || status === 'in_progress')
        await caller.call({ method: 'POST', path: `/v1/batches/${id}/cancel` })
  }

  /** Looks until nothing is held for nothing, or the time is over. */
  async #settle(calm: readonly Held[]): Promise<{ leaked: string[]; after: Held[] }> {
    const giveUp = performance.now() + settleMs
    for (;;) {
      const after = await holdingsNow(this.#fleet)
      const leaked = calm.length > 0 ? findLeaks(calm, after) : []
      if (leaked.length === 0 || performance.now() > giveUp || this.#options.signal.aborted)
        return { leaked, after }
      await this.#pause(2000)
    }
  }

  /** Ends early when the run is to end. */
  #pause(ms: number): Promise<unknown> {
    return delay(Math.max(0, ms), undefined, { signal: this.#options.signal }).catch(() => {})
  }
}
