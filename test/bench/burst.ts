import { setTimeout as delay } from 'node:timers/promises'
import { loadConfig } from '../../infra/config.ts'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { parseDeviceCosts } from '../../processor/simulator/device-costs.ts'
import { measureDevice } from '../../processor/simulator/measure.ts'
import { burstTrace } from './arrivals.ts'
import { predictBurst } from './burst-prediction.ts'
import { type PolicyRun, reportBurst } from './burst-report.ts'
import { levelQualities } from './level-quality.ts'
import { printResult } from './measure.ts'
import { startServe } from './serve-process.ts'
import { startTraffic, sustainedRate, type Traffic } from './traffic.ts'
import type { Answer } from './traffic-client.ts'

export interface BurstOptions {
  rounds: number
  /** Length of the burst; the base load takes half as long before it and three quarters as long after it. */
  seconds: number
  /** The burst's rate over what the service sustains at the highest level, in percent. */
  percent: number
  /** Fixed levels to compare with, besides 0; none: all. */
  levels: readonly number[]
  /** A service that has been up for a while has compiled its code and knows its costs; default 4. */
  warmUpSeconds?: number
  /** After it, time in which what that load asked for is forgotten; default 3000. */
  calmMs?: number
  /** Measurements of each run on the idle device, for the simulator's prediction; default 6. */
  idleRounds?: number
}

/** Pruning policy: a fixed level, or adaptive. */
type Policy = number | 'adaptive'

const path = '/v1/captions'
const sloMs = 500
/** Closed-loop callers set no deadline, else some would be rejected. */
const patientPath = `${path}?deadline_ms=20000`
const callers = 48

/**
 * A tenfold burst, served at full quality, at every fixed level, and adaptively: the same arrivals for all, from an
 * open loop over HTTP, each policy in a service of its own, in turn. Latency counts from when a request was to be
 * sent. The burst is a share of what the service sustains at the highest level, with its callers on the same cores.
 */
export async function benchBurst(options: BurstOptions): Promise<void> {
  const { rounds, seconds, percent, levels, warmUpSeconds = 4, calmMs = 3000, idleRounds = 6 } = options
  const model = await openModel(bundledModel)
  const maxLevel = model.levels.length - 1
  const fixed = levels.length > 0 ? levels : Array.from({ length: maxLevel }, (_, i) => i + 1)
  const policies: Policy[] = [...new Set([0, ...fixed]), 'adaptive']
  const { exact, source } = levelQualities(model)
  const measured = await measureDevice({
    config: loadConfig().config,
    startService: startServe,
    rounds: idleRounds,
  })
  const idle = parseDeviceCosts(measured, 'what was measured')
  const traffic = startTraffic()
  try {
    const sustained = await sustainedAt(maxLevel, { traffic, warmUpSeconds })
    const burstRate = (sustained * percent) / 100
    console.log(
      `${sustained.toFixed(1)} images/s sustained at level ${maxLevel}; base ${(burstRate / 10).toFixed(1)}, burst ${burstRate.toFixed(1)} images/s for ${seconds} s`,
    )
    const traces = Array.from({ length: rounds }, (_, round) =>
      burstTrace({ burstRate, seconds, seed: 1 + round }),
    )
    const runs: PolicyRun[] = policies.map((policy) => ({ policy, sustained: [], answers: [] }))
    for (const { arrivalsMs } of traces)
      for (const run of runs) {
        const { sustained, answers } = await runPolicy(run.policy, {
          arrivalsMs,
          traffic,
          warmUpSeconds,
          calmMs,
        })
        run.sustained.push(sustained)
        run.answers.push(answers)
      }
    const trace = traces[0]!
    const predictions = runs.map(({ policy, answers }) => {
      const level = policy === 'adaptive' ? undefined : policy
      return predictBurst({ trace, answers: answers[0]!, idle, sloMs, level })
    })
    const fields = reportBurst(runs, { trace, sloMs, exact, predictions })
    printResult('burst', {
      ...fields,
      slo_ms: sloMs,
      hardest_level: maxLevel,
      sustained_hardest: sustained,
      base_rate: trace.baseRate,
      burst_rate: trace.burstRate,
      burst_seconds: seconds,
      quality: source,
      rounds,
    })
  } finally {
    traffic.close()
  }
}

interface WarmUp {
  traffic: Traffic
  warmUpSeconds: number
}

/** Captions per second at one level, in a service that does nothing else. */
async function sustainedAt(level: number, { traffic, warmUpSeconds }: WarmUp): Promise<number> {
  const service = await startServe({ TURBINE_PRUNING: String(level) })
  try {
    const load = { url: service.url, path: patientPath, callers }
    await sustainedRate(traffic, { ...load, seconds: warmUpSeconds })
    return await sustainedRate(traffic, { ...load, seconds: 2 * warmUpSeconds })
  } finally {
    await service.close()
  }
}

/** Starts a service, warms it up, waits until it is calm, and lets the arrivals come. */
async function runPolicy(
  policy: Policy,
  { arrivalsMs, traffic, warmUpSeconds, calmMs }: WarmUp & { arrivalsMs: number[]; calmMs: number },
): Promise<{ sustained: number; answers: Answer[] }> {
  const service = await startServe({ TURBINE_PRUNING: String(policy), TURBINE_SLO_MS: String(sloMs) })
  try {
    const load = { url: service.url, path: patientPath, callers, seconds: warmUpSeconds }
    const sustained = await sustainedRate(traffic, load)
    await delay(calmMs)
    return { sustained, answers: await traffic.run({ kind: 'open', url: service.url, path, arrivalsMs }) }
  } finally {
    await service.close()
  }
}
