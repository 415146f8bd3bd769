import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { isFinal } from '../../edge/contract/batch.ts'
import { Client } from '../../processor/cli/batch/client.ts'
import { poissonArrivals } from './arrivals.ts'
import { latenciesOf, scheduledWithin } from './burst-summary.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { startTraffic, type Traffic } from './traffic.ts'

export interface HonestOptions {
  url: string
  apiKey: string
  seconds: number
  /** Interactive requests per second. */
  rate: number
  /** Lines of the batch beside them. */
  lines: number
  /** For the requests' times. */
  seed: number
  /** The batch has failed when it is not complete by then, ms after its start. */
  batchTimeoutMs: number
}

/** What an honest tenant saw. */
export interface HonestResult {
  requests: number
  /** Requests without a caption, by status; 0: no answer. */
  failures: Record<number, number>
  /** Lines of the batch without a caption. */
  failedLines: number
  /** Of the captions, ms. */
  latenciesMs: number[]
  /** Slowest answer to the requests of each second, ms. */
  slowestMs: number[]
  /** From the upload to the completed batch, s. */
  batchSeconds: number
}

export const failedOf = ({ failures, failedLines }: HonestResult): number =>
  Object.values(failures).reduce((sum, count) => sum + count, failedLines)

/** An honest tenant: requests at a modest rate whose callers wait, and one small batch. */
export function startHonest(): { run(options: HonestOptions): Promise<HonestResult>; close(): void } {
  const traffic = startTraffic()
  return {
    async run(options) {
      const [answers, batch] = await Promise.all([ask(traffic, options), runBatch(options)])
      const failures: Record<number, number> = {}
      for (const { status, pruning } of answers) if (!pruning) failures[status] = (failures[status] ?? 0) + 1
      const slowestMs = Array.from({ length: Math.ceil(options.seconds) }, (_, second) => {
        const within = scheduledWithin(answers, 1000 * second, 1000 * (second + 1))
        return Math.max(0, ...within.map(({ scheduledMs, answeredMs }) => answeredMs - scheduledMs))
      })
      return { requests: answers.length, failures, latenciesMs: latenciesOf(answers), slowestMs, ...batch }
    },
    close: () => traffic.close(),
  }
}

/** Callers wait for as long as the service holds them. */
const path = '/v1/captions?deadline_ms=24000'

const ask = (traffic: Traffic, { url, apiKey, seconds, rate, seed }: HonestOptions) =>
  traffic.run({
    kind: 'open',
    url,
    path,
    apiKey,
    arrivalsMs: poissonArrivals([{ seconds, perSecond: rate }], seed),
  })

/** Asks again as often as it takes, as every client does; only what is not there in time has failed. */
async function runBatch({
  url,
  apiKey,
  lines,
  batchTimeoutMs,
}: HonestOptions): Promise<Pick<HonestResult, 'failedLines' | 'batchSeconds'>> {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  const client = new Client({ url, apiKey, signal: AbortSignal.timeout(batchTimeoutMs) })
  try {
    const file = await client.createFile(await manifest(lines), 'scenes.jsonl', randomUUID())
    const { id } = await client.createBatch(
      { input_file_id: file.id, endpoint: '/v1/captions', completion_window: '1h' },
      randomUUID(),
    )
    for (;;) {
      const { status, request_counts } = await client.batch(id)
      if (isFinal(status)) return { failedLines: lines - request_counts.completed, batchSeconds: seconds() }
      await delay(100)
    }
  } catch (error) {
    console.log(`the honest batch: ${error instanceof Error ? error.message : error}`)
    return { failedLines: lines, batchSeconds: seconds() }
  }
}

async function manifest(lines: number): Promise<Blob> {
  const pictures = await encodeScenes(7, 16)
  const line = (_: unknown, i: number) =>
    `${JSON.stringify({
      custom_id: `scene-${i}`,
      image_url: `data:image/jpeg;base64,${pictures[i % pictures.length]!.toString('base64')}`,
    })}\n`
  return new Blob(Array.from({ length: lines }, line))
}
