import { attacks } from '../hostile/attacks.ts'
import { startFleet } from './fleet.ts'
import type { HonestLatency } from './latency.ts'
import { type Held, most } from './leaks.ts'
import { clock, describePlan, planStorm, type Role } from './plan.ts'
import { type Observation, Run } from './run.ts'
import { isClean, judge, type Verdict } from './verdict.ts'

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
  log(`Seed ${seed}. Starting Kafka, S3 and the fleet ...`)
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
    for (const { name, process } of fleet.members)
      if (!process && !signal.aborted) crashed.push(`${name} is not there after the storm`)
    const { verdict, latency, lines } = judge({
      ...observed,
      crashed,
      interrupted: signal.aborted,
      maxRatio: signal.aborted ? undefined : options.maxRatio,
    })
    keepLogs = !isClean(verdict)
    const { faults, hostilities } = plan
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
      ...countsOf(verdict),
      // In a hurry there is hardly a moment without an outage.
      ...(!hurried && waitingOf(latency, observed)),
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

function countsOf({ outOfOrder, ...verdict }: Verdict): Record<string, number> {
  const lists = Object.entries({ ...verdict, out_of_order: outOfOrder })
  return Object.fromEntries(lists.map(([kind, { length }]) => [kind, length]))
}

const waitingOf = (latency: HonestLatency, { liveMaxMs }: Observation) => ({
  honest_p99_calm_ms: latency.calmMs,
  honest_p99_ms: latency.stormMs,
  honest_p99_ratio: latency.ratio,
  honest_calm_requests: latency.calmCount,
  honest_undisturbed_requests: latency.stormCount,
  live_max_ms: liveMaxMs,
})

/** The most of each role, MB. */
function residentOf(held: readonly Held[]): Record<string, number> {
  const byRole = Map.groupBy(held, ({ role }) => role)
  return Object.fromEntries(
    [...byRole].map(([role, all]) => [role, Math.round(most(all.map(({ holdings }) => holdings)).rssMb)]),
  )
}
