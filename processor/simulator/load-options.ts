import { readFile } from 'node:fs/promises'
import { seededRandom } from '../../infra/starter-model/random.ts'
import { capacityOf, type DeviceCosts } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { parseTrace } from './trace-file.ts'
import {
  type Arrival,
  type BurstOptions,
  burst,
  diurnal,
  poissonArrivals,
  type RateCurve,
  steady,
} from './traces.ts'

export interface LoadOptions extends Pick<BurstOptions, 'factor' | 'burstAtMs' | 'burstMs'> {
  /** `burst`, `diurnal`, `steady`, or a file. */
  trace: string
  /** Lowest arrivals per second; default: fits the fleet. */
  perSecond?: number
  /** Default: depends on the trace. */
  durationMs?: number
  seed: number
}

export interface SimulatedLoad {
  arrivals: Arrival[]
  durationMs: number
  /** One line. */
  description: string
}

/** Default peak rate, as a share of the fleet's capacity at the highest level. */
const busiestShare = 0.8
/** Default steady rate, as a share of the fleet's capacity at full quality: the autoscaler's target. */
const steadyShare = 0.7

const minuteMs = 60_000
const defaultDurations = { burst: 3 * minuteMs, diurnal: 60 * minuteMs, steady: 5 * minuteMs }

type Kind = keyof typeof defaultDurations
const isKind = (trace: string): trace is Kind => trace in defaultDurations

/** Makes the arrivals of a load. @throws SimulationInputError */
export async function loadOf(
  options: LoadOptions,
  fleet: { costs: DeviceCosts; replicas: number },
): Promise<SimulatedLoad> {
  const { trace, seed } = options
  if (!isKind(trace)) return recorded(trace)
  const { perSecond = suitableRate(trace, options.factor, fleet), durationMs = defaultDurations[trace] } =
    options
  const curve = curveOf(trace, { ...options, perSecond, durationMs })
  const arrivals = poissonArrivals(curve, seededRandom(seed))
  const busiest = trace === 'steady' ? '' : `, ${shown(curve.mostPerSecond)}/s at peak`
  const description = `${trace} load: ${shown(perSecond)} requests/s${busiest}, ${durationMs / 1000} s`
  return { arrivals, durationMs, description }
}

async function recorded(file: string): Promise<SimulatedLoad> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    const kinds = Object.keys(defaultDurations).join(', ')
    throw new SimulationInputError(`The trace ${file} cannot be read. Use ${kinds}, or a file.`, { cause })
  })
  const arrivals = parseTrace(text, file)
  const durationMs = arrivals.at(-1)!.at
  return {
    arrivals,
    durationMs,
    description: `${file}: ${arrivals.length} requests, ${shown(durationMs / 1000)} s`,
  }
}

type CurveOptions = LoadOptions & { perSecond: number; durationMs: number }

function curveOf(kind: Kind, options: CurveOptions): RateCurve {
  if (kind === 'steady') return steady(options)
  return kind === 'burst' ? burst(options) : diurnal(options)
}

function suitableRate(
  kind: Kind,
  factor: number,
  { costs, replicas }: { costs: DeviceCosts; replicas: number },
): number {
  const { full, pruned } = capacityOf(costs)
  return kind === 'steady' ? steadyShare * replicas * full : (busiestShare * replicas * pruned) / factor
}

const shown = (value: number) => String(Number(value.toPrecision(4)))
