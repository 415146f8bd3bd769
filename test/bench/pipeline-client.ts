import sharp from 'sharp'
import { Pool } from 'undici'
import type { Caption } from '../../edge/contract/caption.ts'
import { heldOutScenes, renderScene, SIDE } from '../../infra/starter-model/scenes.ts'

/** What the benchmark asks its callers to do. */
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
}

const pictures = Promise.all(
  heldOutScenes(3, 32).map(async (scene) =>
    sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
      .jpeg({ quality: 90 })
      .toBuffer(),
  ),
)

process.on('message', async ({ url, images, callers }: LoadRequest) => {
  const encoded = await pictures
  // The callers share the machine with the service, so they are as light as they get.
  const pool = new Pool(url)
  let next = 0
  const overheadsMs: number[] = []
  const start = performance.now()
  const caller = async () => {
    while (next < images) {
      const image = encoded[next++ % encoded.length]!
      const sent = performance.now()
      const { statusCode, body } = await pool.request({
        path: '/v1/captions?max_prune=0',
        method: 'POST',
        headers: { 'content-type': 'image/jpeg' },
        body: image,
      })
      const caption = (await body.json()) as Caption
      if (caption.status !== 'completed')
        throw new Error(`answered ${statusCode}: ${JSON.stringify(caption)}`)
      overheadsMs.push(performance.now() - sent - caption.turbine.inference_ms)
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  process.send!({
    imagesPerSecond: (1000 * images) / (performance.now() - start),
    overheadsMs,
  } satisfies LoadReport)
})
