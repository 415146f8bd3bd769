/** Runs attacks that the parent names, several at a time, each for as long as it says. */
import { setPriority } from 'node:os'
import type { Attack } from '../hostile/attack.ts'
import { attacks } from '../hostile/attacks.ts'

export interface AttackRequest {
  id: number
  name: string
  forMs: number
  url: string
  apiKey: string
}

export interface AttackReport {
  id: number
  name: string
  outcomes: Record<string, number>
}

/** Of an attack's full size: several run at a time here, on a machine that does much else. */
const share = 0.1
const byName: Readonly<Record<string, Attack>> = attacks

// An attacker has a machine of his own: what he computes is not to be taken from the service.
setPriority(10)

process.on('message', async ({ id, name, forMs, url, apiKey }: AttackRequest) => {
  const signal = AbortSignal.timeout(forMs)
  const run = async () => byName[name]!.run({ url, apiKey, signal, share })
  const outcomes = await run().catch((error: unknown) => ({ [`failed: ${error}`]: 1 }))
  process.send?.({ id, name, outcomes } satisfies AttackReport)
})
process.once('disconnect', () => process.exit())

for (const attack of Object.values(byName)) await attack.prepare?.(share)
process.send?.('ready')
