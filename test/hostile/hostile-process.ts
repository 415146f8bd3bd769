/** Runs attacks that the parent names, several at a time, each for as long as it says. */
import { setPriority } from 'node:os'
import type { Attack, Outcomes } from './attack.ts'
import { attacks } from './attacks.ts'

/** Builds what the attacks need, once, before the first. */
export interface PrepareRequest {
  names: readonly string[]
  share: number
}

export interface AttackRequest {
  id: number
  name: string
  forMs: number
  url: string
  apiKey: string
  /** Of the attack's full size. */
  share: number
}

export interface AttackReport {
  id: number
  name: string
  outcomes: Outcomes
  /** Processor time of this process in the meantime. */
  cpuSeconds: number
}

const byName: Readonly<Record<string, Attack>> = attacks

// An attacker has a machine of his own: what he computes is not to be taken from the service.
setPriority(10)

process.on('message', async (request: PrepareRequest | AttackRequest) => {
  if ('id' in request) return process.send?.(await run(request))
  for (const name of request.names) await byName[name]!.prepare?.(request.share)
  process.send?.('ready')
})
process.once('disconnect', () => process.exit())

async function run({ id, name, forMs, url, apiKey, share }: AttackRequest): Promise<AttackReport> {
  const before = process.cpuUsage()
  const signal = AbortSignal.timeout(forMs)
  const attack = async () => byName[name]!.run({ url, apiKey, signal, share })
  const outcomes = await attack().catch((error: unknown) => ({ [`failed: ${error}`]: 1 }))
  const { user, system } = process.cpuUsage(before)
  return { id, name, outcomes, cpuSeconds: (user + system) / 1e6 }
}
