/** Runs attacks that the parent names, several at a time, each for as long as it says. */
import { attacks } from './attacks.ts'

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

/** Of an attack's full size: a few of them run at a time here, on a machine that does much else. */
const share = 0.2

process.on('message', async ({ id, name, forMs, url, apiKey }: AttackRequest) => {
  const signal = AbortSignal.timeout(forMs)
  const run = async () => attacks[name]!.run({ url, apiKey, signal, share })
  const outcomes = await run().catch((error: unknown) => ({ [`failed: ${error}`]: 1 }))
  process.send?.({ id, name, outcomes } satisfies AttackReport)
})
process.once('disconnect', () => process.exit())
