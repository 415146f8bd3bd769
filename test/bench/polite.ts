import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { isFinal } from '../../edge/contract/batch.ts'
import { Client } from '../../processor/cli/batch/client.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { type ImageHost, startImageHost } from './image-hosts.ts'
import { printResult } from './measure.ts'
import { startServe } from './serve-process.ts'

export interface PoliteOptions {
  /** Of each host. */
  lines: number
  /** Images per second that the limited host gives. */
  rate: number
  /** Time of an answer of the host without a limit, ms: so that it, and not the device, bounds its rate. */
  otherLatencyMs: number
}

const limitedLatencyMs = 50

/** A batch whose images are at a host that limits its callers and at one that does not, and the latter's alone. */
export async function benchPolite({ lines, rate, otherLatencyMs }: PoliteOptions): Promise<void> {
  const [image] = await encodeScenes(7, 1)
  const limited = await startImageHost({ image: image!, perSecond: rate, latencyMs: limitedLatencyMs })
  // One for each batch: a host that is known already is asked faster.
  const [lone, other] = await Promise.all(
    Array.from({ length: 2 }, () => startImageHost({ image: image!, latencyMs: otherLatencyMs })),
  )
  const service = await startServe({ TURBINE_ALLOW_PRIVATE_URLS: 'on' })
  const urlsOf = (host: ImageHost) => Array.from({ length: lines }, (_, i) => `${host.url}/${i}.jpg`)
  try {
    await runBatch(service.url, urlsOf(lone!))
    const alone = lone!.counts()
    const others = urlsOf(other!)
    const mixed = urlsOf(limited).flatMap((url, i) => [url, others[i]!])
    const counts = await runBatch(service.url, mixed)
    const [slow, beside] = [limited.counts(), other!.counts()]
    const rateOf = (host: typeof slow) => host.delivered / host.seconds
    const completed = counts.completed - beside.delivered
    console.log(
      `limited host: ${slow.delivered} images in ${slow.seconds.toFixed(1)} s, ${slow.refused} refusals`,
    )
    console.log(`other host: ${rateOf(alone).toFixed(1)}/s alone, ${rateOf(beside).toFixed(1)}/s beside it`)
    printResult('polite', {
      completed,
      requests_over_limit_share: slow.refused / (slow.delivered + slow.refused),
      rate_reached: rateOf(slow) / rate,
      other_host_rate: rateOf(beside) / rateOf(alone),
      lines,
      rate,
    })
  } finally {
    await service.close()
    await Promise.all([limited, lone!, other!].map((host) => host.close()))
  }
}

async function runBatch(url: string, images: string[]): Promise<{ completed: number; failed: number }> {
  const client = new Client({ url, apiKey: undefined, signal: AbortSignal.timeout(30 * 60_000) })
  const manifest = new Blob(images.map((image) => `${image}\n`))
  const file = await client.createFile(manifest, 'images.txt', randomUUID())
  const { id } = await client.createBatch(
    { input_file_id: file.id, endpoint: '/v1/captions', completion_window: '30m' },
    randomUUID(),
  )
  for (;;) {
    const { status, request_counts } = await client.batch(id)
    if (isFinal(status)) return request_counts
    await delay(100)
  }
}
