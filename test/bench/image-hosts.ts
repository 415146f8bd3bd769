import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HostOptions {
  image: Buffer
  /** Images per second, as many saved up at most; beyond that 429 with `Retry-After: 1`. Default: any number. */
  perSecond?: number
  /** Time of each answer, ms. */
  latencyMs: number
}

/** What a host of images saw. */
export interface HostCounts {
  delivered: number
  refused: number
  /** From the first request to the last image, s. */
  seconds: number
}

export interface ImageHost {
  url: string
  /** Counts since the call before. */
  counts(): HostCounts
  close(): Promise<void>
}

/** A host of images on loopback; with a limit it is a token bucket, as those of image CDNs are. */
export async function startImageHost({
  image,
  perSecond = Number.POSITIVE_INFINITY,
  latencyMs,
}: HostOptions): Promise<ImageHost> {
  let tokens = perSecond
  let filledAt = performance.now()
  let seen = { delivered: 0, refused: 0, firstAt: 0, lastAt: 0 }
  const isWithin = () => {
    const now = performance.now()
    if (perSecond === Number.POSITIVE_INFINITY) return true
    tokens = Math.min(perSecond, tokens + ((now - filledAt) / 1000) * perSecond)
    filledAt = now
    if (tokens < 1) return false
    tokens--
    return true
  }
  const server = createServer((_, response) => {
    seen.firstAt ||= performance.now()
    const delivers = isWithin()
    setTimeout(() => {
      if (delivers) {
        seen.delivered++
        seen.lastAt = performance.now()
        response.writeHead(200, { 'content-type': 'image/jpeg' }).end(image)
      } else {
        seen.refused++
        response.writeHead(429, { 'retry-after': '1' }).end()
      }
    }, latencyMs)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    counts() {
      const { delivered, refused, firstAt, lastAt } = seen
      seen = { delivered: 0, refused: 0, firstAt: 0, lastAt: 0 }
      return { delivered, refused, seconds: (lastAt - firstAt) / 1000 }
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
