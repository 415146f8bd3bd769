import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '../../processor/cli/batch/client.ts'
import { poissonArrivals } from './arrivals.ts'
import { latenciesOf, outcomeOf } from './burst-summary.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { median, printResult, quantile } from './measure.ts'
import { metricSum } from './metric-sum.ts'
import { type ServeProcess, startServe } from './serve-process.ts'
import { startTraffic, sustainedRate, type Traffic } from './traffic.ts'
import type { Answer } from './traffic-client.ts'

export interface MixedOptions {
  rounds: number
  /** Time of batch work with interactive requests beside it, and alone, in each round. */
  seconds: number
  /** For the rate that is sustained unpruned, and as long before it to warm up; default 5. */
  warmUpSeconds?: number
  /** Until the batch lane has filled the queue, and until the last interactive image has left it; default 4000. */
  settleMs?: number
}

const path = '/v1/captions'
const sloMs = 500
const callers = 48
/** Of the rate that the service sustains unpruned. */
const interactiveShare = 0.2
const manifestLines = 1024

/**
 * Batch work that saturates the devices, alone and beside interactive requests at a fifth of what the service
 * sustains, in turn: what becomes of the requests' latency, and of the batches' rate.
 */
export async function benchMixed(options: MixedOptions): Promise<void> {
  const { rounds, seconds, warmUpSeconds = 5, settleMs = 4000 } = options
  const service = await startServe({ TURBINE_SLO_MS: String(sloMs) })
  const traffic = startTraffic()
  const alone: Window[] = []
  const mixed: Window[] = []
  try {
    const { url } = service
    const capacity = await sustainedUnpruned(url, { traffic, warmUpSeconds })
    const perSecond = interactiveShare * capacity
    console.log(
      `${capacity.toFixed(1)} images/s unpruned; ${perSecond.toFixed(1)} requests/s beside the batches`,
    )
    // Enough that they do not run out: more than the devices can serve in all of the time.
    const images = 1.5 * capacity * ((2 * rounds + 1) * (seconds + settleMs / 1000))
    await submitBatches(url, Math.ceil(images / manifestLines))
    const observe = async (work: () => Promise<Answer[]>) => {
      await delay(settleMs)
      return observeWindow(service, work)
    }
    for (let round = 0; round < rounds; round++) {
      alone.push(await observe(() => delay(1000 * seconds, [])))
      const arrivalsMs = poissonArrivals([{ seconds, perSecond }], 1 + round)
      const requests = { kind: 'open', url, path, arrivalsMs } as const
      mixed.push(await observe(() => traffic.run(requests)))
    }
    alone.push(await observe(() => delay(1000 * seconds, [])))
    report({ alone, mixed, capacity, perSecond, rounds })
  } finally {
    traffic.close()
    await service.close()
  }
}

async function sustainedUnpruned(
  url: string,
  { traffic, warmUpSeconds }: { traffic: Traffic; warmUpSeconds: number },
): Promise<number> {
  const load = { url, path: `${path}?max_prune=0&deadline_ms=20000`, callers, seconds: warmUpSeconds }
  await sustainedRate(traffic, load)
  return sustainedRate(traffic, load)
}

/** Uploads one file and submits `count` batches of it. */
async function submitBatches(url: string, count: number): Promise<void> {
  const client = new Client({ url, signal: new AbortController().signal, onNote: console.log })
  const file = await client.createFile(new Blob([await manifest()]), 'scenes.jsonl', randomUUID())
  for (let i = 0; i < count; i++)
    await client.createBatch(
      { input_file_id: file.id, endpoint: path, completion_window: '24h' },
      randomUUID(),
    )
}

async function manifest(): Promise<string> {
  const pictures = await encodeScenes(5, 64)
  const line = (i: number) =>
    JSON.stringify({
      custom_id: `scene-${i}`,
      image_url: `data:image/jpeg;base64,${pictures[i % pictures.length]!.toString('base64')}`,
    })
  return `${Array.from({ length: manifestLines }, (_, i) => line(i)).join('\n')}\n`
}

/** Work of the service in an interval. */
interface Window {
  /** Images per second of the batch lane. */
  batchRate: number
  /** Share of the time in which the device ran. */
  busyShare: number
  /** Of the interactive requests that came in it. */
  answers: Answer[]
}

/** Looks at the service's counters before and after `work`, which awaits its requests' answers. */
async function observeWindow(service: ServeProcess, work: () => Promise<Answer[]>): Promise<Window> {
  const before = await readCounters(service)
  const answers = await work()
  const after = await readCounters(service)
  const seconds = after.seconds - before.seconds
  // A run serves images of both lanes: what was no request's was a batch's.
  const batchImages = after.images - before.images - answers.filter(({ pruning }) => pruning).length
  if (batchImages === 0) throw new Error('the batches ended before the measurement')
  return {
    batchRate: batchImages / seconds,
    busyShare: (after.busySeconds - before.busySeconds) / seconds,
    answers,
  }
}

async function readCounters(service: ServeProcess) {
  const text = await service.metrics()
  return {
    seconds: performance.now() / 1000,
    images: metricSum(text, 'turbine_images_total'),
    busySeconds: metricSum(text, 'turbine_device_busy_seconds_total'),
  }
}

interface MixedReport {
  alone: Window[]
  mixed: Window[]
  capacity: number
  perSecond: number
  rounds: number
}

function report({ alone, mixed, capacity, perSecond, rounds }: MixedReport): void {
  const answers = mixed.flatMap((window) => window.answers)
  const latencies = latenciesOf(answers)
  const missed = answers.filter((answer) => outcomeOf(answer, sloMs) !== 'in_time').length
  // Each mixed stretch is compared with the mean of those before and after it.
  const kept = mixed.map(
    ({ batchRate }, i) => (2 * batchRate) / (alone[i]!.batchRate + alone[i + 1]!.batchRate),
  )
  const pruned = answers.flatMap(({ pruning }) => pruning?.prune_ratio ?? [])
  const rate = (windows: Window[]) => median(windows.map(({ batchRate }) => batchRate))
  const busy = (windows: Window[]) => median(windows.map(({ busyShare }) => busyShare))
  console.log('            batch images/s   device busy')
  for (const [name, windows] of Object.entries({ alone, mixed }))
    console.log(
      `${name.padEnd(10)}${rate(windows).toFixed(1).padStart(16)}${(100 * busy(windows)).toFixed(1).padStart(12)} %`,
    )
  printResult('mixed', {
    interactive_p50_ms: median(latencies),
    interactive_p99_ms: quantile(latencies, 0.99),
    interactive_miss: missed / answers.length,
    interactive_mean_prune: pruned.reduce((sum, ratio) => sum + ratio, 0) / pruned.length,
    slo_ms: sloMs,
    busy_share: busy(mixed),
    busy_share_alone: busy(alone),
    batch_kept: median(kept),
    batch_rate_alone: rate(alone),
    batch_rate_mixed: rate(mixed),
    interactive_rate: perSecond,
    unpruned_rate: capacity,
    rounds,
  })
}
