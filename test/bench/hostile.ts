import { setTimeout as delay } from 'node:timers/promises'
import type { Grant } from '../../edge/contract/tenant.ts'
import type { Attack, Outcomes } from '../hostile/attack.ts'
import { type AttackName, attacks } from '../hostile/attacks.ts'
import { type HostileTenant, startHostileTenant } from '../hostile/hostile-tenant.ts'
import { type RefusingStore, refusedBucket, startRefusingStore } from '../hostile/refusing-store.ts'
import { canStartS3, createBucket, type S3Server, startS3 } from '../servers/s3.ts'
import { failedOf, type HonestResult, startHonest } from './honest-load.ts'
import { printResult, quantile } from './measure.ts'
import { treeUsage, watchTree } from './process-tree.ts'
import { type SupervisedServe, startSupervised } from './supervised-serve.ts'

export interface HostileOptions {
  /** Names of `attacks`. */
  attacks: readonly string[]
  /** Of each attack, and of the calm before it. */
  seconds: number
  /** Interactive requests of the honest tenant per second. */
  rate: number
  /** Lines of its batch. */
  lines: number
  /** Of each attack's size; default 1. */
  share?: number
}

interface AttackResult {
  calm: HonestResult
  attacked: HonestResult
  calmResidentMb: number
  peakResidentMb: number
  calmTurn: Turn
  turn: Turn
  deaths: number
  /** Open files and sockets before, at most, and after all callers have gone. */
  files: [before: number, peak: number, after: number]
  /** Processor time during the attack: of the service's main thread, of the whole service, of the attack, s. */
  cpu: [main: number, service: number, attack: number]
  outcomes: Outcomes
}

type Turn = { wallMs: number; cpuMs: number }

const bucket = 'turbine'
const hostileTenant = 'hostile'
const honestTenant = 'honest'
/** Before the calm, until everything has been used once. */
const warmUpSeconds = 2
const batchTimeoutMs = 60_000
/** After an attack, until what it has left has ended. */
const settleMs = 1000

/**
 * One hostile tenant beside an honest one, for each attack in turn on a service of its own: calm first, then under
 * attack. What becomes of the honest tenant's requests and batch, of the service's memory and of its event loop.
 */
export async function benchHostile(options: HostileOptions): Promise<void> {
  const names = options.attacks.map(knownAttack)
  const needsS3 = (name: AttackName) => (attacks[name] as Attack).needs?.includes('s3') === true
  const skipped = canStartS3() ? [] : names.filter(needsS3)
  if (skipped.length > 0) console.log(`skipped, an S3 server cannot be started here: ${skipped.join(', ')}`)
  const results: Partial<Record<AttackName, AttackResult>> = {}
  for (const name of names.filter((name) => !skipped.includes(name))) {
    const result = await measure(name, options, needsS3(name))
    results[name] = result
    console.log(describe(name, result))
  }
  report(results, options)
}

function knownAttack(name: string): AttackName {
  if (Object.hasOwn(attacks, name)) return name as AttackName
  throw new Error(`There is no attack "${name}". There are: ${Object.keys(attacks).join(', ')}.`)
}

async function measure(name: AttackName, options: HostileOptions, withS3: boolean): Promise<AttackResult> {
  const { share = 1 } = options
  const hostile = await startHostileTenant({ names: [name], share })
  const stores = withS3 ? await startStores() : undefined
  try {
    const service = await startSupervised({
      tenants: { [hostileTenant]: stores?.grants ?? [], [honestTenant]: [] },
      env: {
        ...stores?.env,
        ...((attacks[name] as Attack).needs?.includes('private addresses') && {
          TURBINE_ALLOW_PRIVATE_URLS: 'on',
        }),
      },
    })
    try {
      return await underAttack(name, hostile, service, options)
    } finally {
      await service.close()
    }
  } finally {
    await stores?.close()
    await hostile.close()
  }
}

async function underAttack(
  name: AttackName,
  hostile: HostileTenant,
  service: SupervisedServe,
  { seconds, rate, lines }: HostileOptions,
): Promise<AttackResult> {
  const { url, apiKeys } = service
  const honest = startHonest()
  const tree = watchTree(service.pid)
  const usage = () => treeUsage(service.pid() ?? -1)
  const load = { url, apiKey: apiKeys[honestTenant]!, rate, lines, batchTimeoutMs }
  try {
    await honest.run({ ...load, seconds: Math.min(seconds, warmUpSeconds), seed: 1 })
    await service.longestTurn()
    tree.peak()
    const calm = await honest.run({ ...load, seconds, seed: 2 })
    const calmTurn = await service.longestTurn()
    const calmResidentMb = tree.peak().residentMb
    const before = usage()
    const [attacked, { outcomes, cpuSeconds }] = await Promise.all([
      honest.run({ ...load, seconds, seed: 2 }),
      hostile.attack({ name, forMs: 1000 * seconds, url, apiKey: apiKeys[hostileTenant]! }),
    ])
    const turn = await service.longestTurn()
    await delay(settleMs)
    const peak = tree.peak()
    const after = usage()
    return {
      calm,
      attacked,
      calmResidentMb,
      peakResidentMb: peak.residentMb,
      calmTurn,
      turn,
      deaths: service.deaths,
      files: [before.files, peak.files, after.files],
      cpu: [after.mainCpuSeconds - before.mainCpuSeconds, after.cpuSeconds - before.cpuSeconds, cpuSeconds],
      outcomes,
    }
  } finally {
    tree.stop()
    honest.close()
  }
}

/** An S3 server with the service's bucket, behind an endpoint that refuses the objects of another bucket. */
async function startStores() {
  const s3: S3Server = await startS3()
  const refusing: RefusingStore = await startRefusingStore(s3.endpoint)
  await s3.createBucket(bucket)
  await createBucket(s3, refusedBucket)
  const grants: Grant[] = [
    { uri: `s3://${refusedBucket}/`, access: 'read' },
    { uri: `s3://${refusedBucket}/`, access: 'write' },
  ]
  const env = {
    S3_ENDPOINT: refusing.endpoint,
    S3_BUCKET: bucket,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  }
  const close = async () => {
    await refusing.close()
    await s3.dispose()
  }
  return { grants, env, close }
}

/** 1 where nothing came in the calm to compare with. */
const p99 = ({ latenciesMs }: HonestResult) =>
  latenciesMs.length > 0 ? quantile(latenciesMs, 0.99) : Number.NaN

function describe(name: string, result: AttackResult): string {
  const { calm, attacked, calmTurn, turn, files, outcomes } = result
  const [before, peak, after] = files
  const rounded = (value: number) => value.toFixed(0)
  const [main, whole, own] = result.cpu.map((seconds) => seconds.toFixed(1))
  const each = (entries: Record<string, number>) =>
    Object.entries(entries)
      .toSorted(([, a], [, b]) => b - a)
      .map(([what, count]) => `${count} x ${what}`)
      .join('; ')
  return `${name}: ${failedOf(attacked)} failed${failedOf(attacked) > 0 ? ` (${each(attacked.failures)}; ${attacked.failedLines} lines)` : ''}, ${result.deaths} deaths
  p99 ${rounded(p99(calm))} -> ${rounded(p99(attacked))} ms, batch ${calm.batchSeconds.toFixed(1)} -> ${attacked.batchSeconds.toFixed(1)} s
  slowest by second: ${attacked.slowestMs.map(rounded).join(' ')} ms
  processor time: ${main} s main thread, ${whole} s service, ${own} s attack
  memory ${rounded(result.calmResidentMb)} -> ${rounded(result.peakResidentMb)} MB, event loop ${rounded(calmTurn.wallMs)} (${rounded(calmTurn.cpuMs)} busy) -> ${rounded(turn.wallMs)} (${rounded(turn.cpuMs)} busy) ms
  files ${before} -> ${peak} -> ${after}
  ${each(outcomes)}`
}

function report(results: Partial<Record<AttackName, AttackResult>>, options: HostileOptions): void {
  const all = Object.entries(results)
  // Of all calm stretches together: one alone has few requests.
  const calmMs = all.flatMap(([, { calm }]) => calm.latenciesMs)
  const calmP99 = calmMs.length > 0 ? quantile(calmMs, 0.99) : Number.NaN
  const rows = all.map(([name, result]) => [
    name,
    {
      honest_failed: failedOf(result.attacked),
      honest_p99_ms: p99(result.attacked),
      honest_p99_ratio: p99(result.attacked) / calmP99,
      honest_batch_s: result.attacked.batchSeconds,
      calm_batch_s: result.calm.batchSeconds,
      peak_rss_mb: result.peakResidentMb,
      event_loop_max_ms: result.turn.wallMs,
      event_loop_busy_max_ms: result.turn.cpuMs,
      deaths: result.deaths,
    },
  ]) as [string, Record<string, number>][]
  const worst = (field: string) => Math.max(...rows.map(([, row]) => row[field]!))
  const sum = (field: string) => rows.reduce((total, [, row]) => total + row[field]!, 0)
  printResult('hostile', {
    honest_failed: sum('honest_failed'),
    honest_p99_ratio: worst('honest_p99_ratio'),
    peak_rss_mb: worst('peak_rss_mb'),
    event_loop_max_ms: worst('event_loop_max_ms'),
    event_loop_busy_max_ms: worst('event_loop_busy_max_ms'),
    deaths: sum('deaths'),
    calm_p99_ms: calmP99,
    calm_event_loop_max_ms: Math.max(...all.map(([, { calmTurn }]) => calmTurn.wallMs)),
    attacks: Object.fromEntries(rows),
    seconds: options.seconds,
  })
}
