import { createInterface } from 'node:readline'
import type { PeerRequest, Versions } from './process.ts'

/** The other end of `startPeer`, in Node: says that it is open, and answers each line until there are no more. */
export async function answerLines(
  versions: Versions,
  run: (request: PeerRequest) => Promise<number[][]>,
): Promise<void> {
  const say = (fields: unknown) => process.stdout.write(`${JSON.stringify(fields)}\n`)
  say({ versions: { node: process.versions.node, ...versions } })
  for await (const line of createInterface({ input: process.stdin })) {
    const begin = performance.now()
    const before = process.cpuUsage()
    const ids = await run(JSON.parse(line) as PeerRequest)
    const { user, system } = process.cpuUsage(before)
    const spent = { ms: performance.now() - begin, cpu_ms: (user + system) / 1000 }
    say({ ...spent, peak_rss_mb: process.resourceUsage().maxRSS / 1024, ids })
  }
}
