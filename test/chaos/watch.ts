import { setTimeout as delay } from 'node:timers/promises'
import type { ChaosFleet } from './fleet.ts'
import type { Held } from './leaks.ts'
import { holdingsOf } from './processes.ts'

/** How long a process took to say that it lives; it cannot while its event loop is held. */
export interface Pulse {
  name: string
  fromMs: number
  toMs: number
}

const everyMs = 1000
const pulseWithinMs = 30_000

/** What the processes of a fleet hold now. Those that are down are left out. */
export async function holdingsNow({ members, kafka, s3 }: ChaosFleet): Promise<Held[]> {
  const ports = { kafka: kafka.proxy?.port, s3: s3.proxy?.port }
  const all = await Promise.all(
    members.map(async ({ name, role, process }) => {
      const holdings = process && (await holdingsOf(process.pid, ports))
      return holdings ? [{ name, role, holdings }] : []
    }),
  )
  return all.flat()
}

/** Looks after the fleet once a second until it is closed. */
export function watchFleet(fleet: ChaosFleet): { held: Held[]; pulses: Pulse[]; close(): Promise<void> } {
  const held: Held[] = []
  const pulses: Pulse[] = []
  const closed = new AbortController()
  const running = (async () => {
    while (!closed.signal.aborted) {
      held.push(...(await holdingsNow(fleet)))
      for (const { name, process } of fleet.members)
        if (process) void feel(name, process.url).then((pulse) => pulses.push(...pulse))
      await delay(everyMs, undefined, { signal: closed.signal }).catch(() => {})
    }
  })()
  return {
    held,
    pulses,
    close() {
      closed.abort()
      return running
    },
  }
}

async function feel(name: string, url: string): Promise<Pulse[]> {
  const fromMs = performance.now()
  try {
    const response = await fetch(`${url}/health/live`, { signal: AbortSignal.timeout(pulseWithinMs) })
    await response.body?.cancel()
    return [{ name, fromMs, toMs: performance.now() }]
  } catch {
    // It is down, which its place in the fleet knows about.
    return []
  }
}
