import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'undici'
import type { Caption, Pruning } from '../../edge/contract/caption.ts'
import { encodeScenes } from './encoded-scenes.ts'

/** Load that the parent requests. */
export type TrafficRequest = OpenLoop | ClosedLoop

/** Open-loop requests at given times. */
export interface OpenLoop {
  kind: 'open'
  url: string
  /** `/v1/captions`, with options. */
  path: string
  apiKey?: string
  /** Ascending, from the start. */
  arrivalsMs: number[]
}

/** Closed-loop callers. */
export interface ClosedLoop {
  kind: 'closed'
  url: string
  path: string
  apiKey?: string
  callers: number
  /** No request begins after this long. */
  seconds: number
}

/** Outcome of a request. Times are ms from the start. */
export interface Answer {
  /** Scheduled time; latency counts from here. */
  scheduledMs: number
  sentMs: number
  answeredMs: number
  /** HTTP status; 0 when the connection failed. */
  status: number
  /** Absent without a caption. */
  pruning?: Pruning
}

const pictures = encodeScenes(3, 32)

process.on('message', async (request: TrafficRequest) => {
  const images = await pictures
  // A request of an open loop never waits for a connection: there are as many as it takes.
  const pool = new Pool(request.url)
  const start = performance.now()
  const elapsed = () => performance.now() - start
  let next = 0
  const send = async (scheduledMs: number): Promise<Answer> => {
    const sentMs = elapsed()
    const answer = await post(pool, request, images[next++ % images.length]!)
    return { scheduledMs, sentMs, answeredMs: elapsed(), ...answer }
  }
  const answers = request.kind === 'open' ? openLoop(request, send) : closedLoop(request, send)
  process.send!(await answers)
  await pool.close()

  async function openLoop({ arrivalsMs }: OpenLoop, send: (at: number) => Promise<Answer>) {
    const sent: Promise<Answer>[] = []
    for (const at of arrivalsMs) {
      const aheadMs = at - elapsed()
      if (aheadMs > 0) await delay(aheadMs)
      sent.push(send(at))
    }
    return Promise.all(sent)
  }

  async function closedLoop({ callers, seconds }: ClosedLoop, send: (at: number) => Promise<Answer>) {
    const answers: Answer[] = []
    const caller = async () => {
      while (elapsed() < 1000 * seconds) answers.push(await send(elapsed()))
    }
    await Promise.all(Array.from({ length: callers }, caller))
    return answers
  }
})

async function post(
  pool: Pool,
  { path, apiKey }: TrafficRequest,
  image: Buffer,
): Promise<Pick<Answer, 'status' | 'pruning'>> {
  try {
    const { statusCode: status, body } = await pool.request({
      path,
      method: 'POST',
      headers: { 'content-type': 'image/jpeg', ...(apiKey && { authorization: `Bearer ${apiKey}` }) },
      body: image,
    })
    const caption = (await body.json()) as Caption
    return { status, pruning: caption.status === 'completed' ? caption.turbine : undefined }
  } catch {
    return { status: 0 }
  }
}
