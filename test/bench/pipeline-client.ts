import { Pool } from 'undici'
import type { Caption } from '../../edge/contract/caption.ts'
import { encodeScenes } from './encoded-scenes.ts'

/** Load of the callers. */
export interface LoadRequest {
  url: string
  images: number
  /** Requests that are open at once. */
  callers: number
}

export interface LoadReport {
  imagesPerSecond: number
  /** For each request its time less that of its inference. */
  overheadsMs: number[]
  parts: RequestParts[]
}

/** Time of one request by stage, ms. */
export interface RequestParts {
  totalMs: number
  /** Until the stream had the job, and from then until the caption was there, as the edge says. */
  produceMs: number
  waitMs: number
  /** From acceptance to the start of the batch, and the batch's run. */
  queueMs: number
  inferenceMs: number
}

const pictures = encodeScenes(3, 32, 90)

process.on('message', async ({ url, images, callers }: LoadRequest) => {
  const encoded = await pictures
  // The callers share the machine with the service, so they are as light as they get.
  const pool = new Pool(url)
  let next = 0
  const parts: RequestParts[] = []
  const start = performance.now()
  const caller = async () => {
    while (next < images) {
      const image = encoded[next++ % encoded.length]!
      const sent = performance.now()
      const { statusCode, headers, body } = await pool.request({
        path: '/v1/captions?max_prune=0',
        method: 'POST',
        headers: { 'content-type': 'image/jpeg' },
        body: image,
      })
      const caption = (await body.json()) as Caption
      if (caption.status !== 'completed')
        throw new Error(`answered ${statusCode}: ${JSON.stringify(caption)}`)
      const { queue_ms: queueMs, inference_ms: inferenceMs } = caption.turbine
      const totalMs = performance.now() - sent
      const [produceMs, waitMs] = timingsOf(String(headers['server-timing']))
      parts.push({ totalMs, produceMs, waitMs, queueMs, inferenceMs })
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  process.send!({
    imagesPerSecond: (1000 * images) / (performance.now() - start),
    overheadsMs: parts.map(({ totalMs, inferenceMs }) => totalMs - inferenceMs),
    parts,
  } satisfies LoadReport)
})

/** `produce` and `wait` of a `Server-Timing` header, ms. */
const timingsOf = (header: string): [number, number] => {
  const of = (name: string) => Number(new RegExp(`${name};dur=([\\d.]+)`).exec(header)?.[1] ?? 0)
  return [of('produce'), of('wait')]
}
