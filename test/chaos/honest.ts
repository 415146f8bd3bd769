import { setTimeout as delay } from 'node:timers/promises'
import { type Random, seededRandom } from '../../infra/starter-model/random.ts'
import { type BatchRun, runBatch } from './batches.ts'
import { type Attempt, type Caller, createCaller } from './caller.ts'
import { type Ask, askCaption } from './captions.ts'
import type { Scenery } from './scenery.ts'

/** Everything that honest tenants have done. */
export interface Journal {
  asks: Ask[]
  batches: BatchRun[]
  attempts: Attempt[]
}

export interface HonestOptions {
  edges: readonly string[]
  /** API keys by tenant. */
  tenants: Record<string, string>
  scenery: Scenery
  seed: number
  /** Requests per second of all tenants together. */
  rate: number
  /** Lines of a batch, from and to; each tenant has one open at a time. */
  batchLines: readonly [number, number]
  /** Ends what has not been answered by then. */
  patience: AbortSignal
}

export interface HonestLoad {
  journal: Journal
  /** Begins nothing more; resolves when all is answered, or the patience is over. */
  stop(): Promise<void>
}

/** So many requests of a tenant are open at most: after a long outage there is no avalanche. */
const mostOpen = 20
/** Between two batches of a tenant, ms. */
const betweenBatchesMs = 3000

/** Starts an open loop of requests and a closed one of batches for each tenant. */
export function startHonestLoad(options: HonestOptions): HonestLoad {
  const journal: Journal = { asks: [], batches: [], attempts: [] }
  const stopped = new AbortController()
  const callers = Object.entries(options.tenants).map(([tenant, apiKey], i) => ({
    tenant,
    random: seededRandom(options.seed, 10 + i),
    caller: createCaller({ ...options, apiKey, onAttempt: (attempt) => journal.attempts.push(attempt) }),
  }))
  const running = callers.flatMap((one) => [
    sendCaptions(one, { ...options, rate: options.rate / callers.length, journal, stopped: stopped.signal }),
    sendBatches(one, { ...options, journal, stopped: stopped.signal }),
  ])
  return {
    journal,
    async stop() {
      stopped.abort()
      await Promise.all(running)
    },
  }
}

interface Tenant {
  tenant: string
  random: Random
  caller: Caller
}

type Sending = HonestOptions & { journal: Journal; stopped: AbortSignal }

async function sendCaptions({ tenant, random, caller }: Tenant, options: Sending): Promise<void> {
  const { rate, scenery, journal, stopped } = options
  const open = new Set<Promise<unknown>>()
  for (let next = performance.now(); !stopped.aborted; ) {
    const picture = scenery.pictures[Math.floor(random() * scenery.pictures.length)]!
    // A generator of its own, so that the order of the answers changes nothing.
    const own = seededRandom(Math.floor(random() * 2 ** 32), 3)
    const asking: Promise<void> = askCaption(caller, { random: own, picture, tenant }).then((ask) => {
      journal.asks.push(ask)
      open.delete(asking)
    })
    open.add(asking)
    if (open.size >= mostOpen) await Promise.race(open)
    next = Math.max(next, performance.now() - 1000)
    next += (-Math.log(1 - random()) * 1000) / rate
    await pause(Math.max(0, next - performance.now()), stopped)
  }
  await Promise.all(open)
}

async function sendBatches({ tenant, random, caller }: Tenant, options: Sending): Promise<void> {
  const { batchLines, scenery, journal, stopped } = options
  const [from, to] = batchLines
  while (!stopped.aborted) {
    const lines = from + Math.floor(random() * (to - from + 1))
    journal.batches.push(await runBatch(caller, { random, tenant, lines, scenery }))
    await pause(betweenBatchesMs, stopped)
  }
}

/** Ends early when the signal aborts. */
const pause = (ms: number, signal: AbortSignal) => delay(ms, undefined, { signal }).catch(() => {})
