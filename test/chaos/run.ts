import { setTimeout as delay } from 'node:timers/promises'
import type { Outcomes } from '../hostile/attack.ts'
import { attacks } from '../hostile/attacks.ts'
import { type HostileTenant, startHostileTenant } from '../hostile/hostile-tenant.ts'
import { refusedBucket } from '../hostile/refusing-store.ts'
import { createCaller } from './caller.ts'
import { perform } from './faults.ts'
import type { ChaosFleet } from './fleet.ts'
import { type HonestLoad, type Journal, startHonestLoad } from './honest.ts'
import type { Outage } from './latency.ts'
import { findLeaks, type Held } from './leaks.ts'
import { describeFault, type Plan } from './plan.ts'
import { openScenery, type Scenery } from './scenery.ts'
import { holdingsNow, watchFleet } from './watch.ts'

const tenants = ['acme', 'umbrella', 'initech']
const hostileTenant = 'mallory'
const pictureCount = 24
/** Of an attack's full size: several run at a time, on a machine that does much else. */
const attackShare = 0.1
const hostileStorage = '400MB'
/** For two cores that do everything else as well. */
const load = { rate: 3, batchLines: [10, 50] } as const
/** How long the last answers are waited for after the storm, ms. */
const patienceMs = 180_000
/** Within this what was used is given back, ms: idle connections close, memory is collected. */
const settleMs = 90_000

/** A fault that cannot begin for so long is left out, ms: the part still comes back from the last one. */
const longestDelayMs = 15_000

export interface RunOptions {
  seed: number
  signal: AbortSignal
  say(text: string): void
  plan: Plan
  calmMs: number
}

/** What a run has seen. */
export interface Observation {
  journal: Journal
  /** Ms of `performance.now()`. */
  stormFromMs: number
  outages: Outage[]
  /** How often each thing came of each attack. */
  attacks: Record<string, Outcomes>
  leaked: string[]
  /** The longest that a process took to say that it lives, outside of outages. */
  liveMaxMs: number
  /** What the processes held in the calm, in the storm, and at the end. */
  calm: Held[]
  peak: Held[]
  after: Held[]
}

/** One run on a fleet that is ready. */
export class Run {
  readonly #fleet: ChaosFleet
  readonly #options: RunOptions
  #scenery: Scenery | undefined
  #hostile: HostileTenant | undefined
  readonly #patience = new AbortController()
  readonly #closed = new AbortController()
  /** What is being done to each part; the next fault of a part waits for it. */
  readonly #turns = new Map<string, Promise<unknown>>()
  #hostileKey = ''
  #attacks = 0
  readonly #attacked: Record<string, Outcomes> = {}

  constructor(fleet: ChaosFleet, { signal, ...options }: RunOptions) {
    this.#fleet = fleet
    this.#options = { ...options, signal: AbortSignal.any([signal, this.#closed.signal]) }
  }

  /** The calm, the storm, the last answers, and the time to settle. */
  async all(): Promise<Observation> {
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
    return {
      journal: load.journal,
      stormFromMs,
      outages,
      attacks: this.#attacked,
      leaked,
      liveMaxMs,
      calm: calmWatch.held,
      peak: stormWatch.held,
      after,
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
    // The disk of the S3 server is small: without a limit of its storage one tenant fills it.
    await fleet.command(['tenants', 'limit', hostileTenant, '--max-storage', hostileStorage])
    for (const right of ['--read', '--write'])
      await fleet.command(['tenants', 'grant', hostileTenant, right, `s3://${refusedBucket}/`])
    const { [hostileTenant]: hostileKey, ...honestKeys } = keys
    const scenery = await openScenery(pictureCount, { name: bucket, store: fleet.bucket(bucket) })
    this.#scenery = scenery
    this.#hostile = await startHostileTenant({ names: Object.keys(attacks), share: attackShare })
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
      at(atMs, () => this.#attack(name, forMs)),
    )
    await Promise.all([...faults, ...attacking, at(plan.stormMs, async () => {})])
    return outages
  }

  async #attack(name: string, forMs: number): Promise<void> {
    const { edges } = this.#fleet
    const url = edges[this.#attacks++ % edges.length]!
    const { outcomes } = await this.#hostile!.attack({ name, forMs, url, apiKey: this.#hostileKey })
    const sums = this.#attacked[name] ?? {}
    this.#attacked[name] = sums
    for (const [outcome, times] of Object.entries(outcomes)) sums[outcome] = (sums[outcome] ?? 0) + times
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
    // Attacks make hundreds of batches: a page has but a part of them.
    for (let after = ''; ; ) {
      const { text } = await caller.call({ path: `/v1/batches?limit=100${after}` })
      const page = JSON.parse(text) as { data: { id: string; status: string }[]; has_more: boolean }
      for (const { id, status } of page.data)
        if (status === 'validating' || status === 'in_progress')
          await caller.call({ method: 'POST', path: `/v1/batches/${id}/cancel` })
      if (!page.has_more) return
      after = `&after=${page.data.at(-1)!.id}`
    }
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
