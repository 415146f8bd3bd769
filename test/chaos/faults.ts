import { setTimeout as delay } from 'node:timers/promises'
import type { ChaosFleet } from './fleet.ts'
import type { Outage } from './latency.ts'
import { type Fault, isRole } from './plan.ts'

/** A delay in each direction, ms. */
const delayMs = 150

/**
 * Does what the plan says, and undoes it after its time or as soon as the signal aborts.
 * @returns for how long callers may have noticed it, with the time that it really took
 */
export async function perform(fleet: ChaosFleet, fault: Fault, signal: AbortSignal): Promise<Outage> {
  const fromMs = performance.now()
  const { begin, end } = deedOf(fleet, fault)
  await begin()
  await delay(fault.forMs, undefined, { signal }).catch(() => {})
  await end()
  return { fromMs, toMs: performance.now() + fault.graceMs }
}

interface Deed {
  begin(): unknown
  end(): unknown
}

function deedOf(fleet: ChaosFleet, fault: Fault): Deed {
  const { action, target, index } = fault
  if (action === 'fill') return { begin: () => fleet.disk!.fill(), end: () => fleet.disk!.free() }
  if (isRole(target)) {
    const member = fleet.members.find((one) => one.role === target && one.index === index)!
    if (action === 'freeze') return { begin: () => member.freeze(), end: () => member.thaw() }
    return {
      begin: () => member.down(action === 'kill' ? 'SIGKILL' : 'SIGTERM'),
      end: () => member.start(),
    }
  }
  const { server, proxy } = fleet[target]
  switch (action) {
    case 'delay':
      return {
        begin: () => proxy!.become({ kind: 'delay', ms: delayMs }),
        end: () => proxy!.become({ kind: 'open' }),
      }
    case 'cut':
    case 'silence':
      return { begin: () => proxy!.become({ kind: action }), end: () => proxy!.become({ kind: 'open' }) }
    case 'freeze':
      return { begin: () => server!.freeze(), end: () => server!.thaw() }
    case 'kill':
      return { begin: () => server!.kill(), end: () => server!.start() }
    case 'stop':
      return { begin: () => server!.stop(), end: () => server!.start() }
  }
}
