import type { Context } from 'hono'
import type { Caption } from '../contract/caption.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { claimRequest, replayedHeader } from '../guard/idempotency.ts'
import { submitOnce } from './once.ts'
import { newCaptionId, type Submission } from './submit.ts'

/** What a request asks for, whichever way it came. */
export type CaptionAsk = Pick<Submission, 'image' | 'model' | 'prompt' | 'maxPrune' | 'deadlineMs'>

export interface RequestOptions {
  /** When the request came, unix ms. */
  receivedAt: number
  /** The caller wants an address at once, not the answer. Default: false. */
  respondAsync?: boolean
}

/**
 * Submits what a request asks for in the name of its tenant, once for each `Idempotency-Key`. The request's body must
 * have been read: repeats must have the same.
 * @returns and throws what `submitOnce` does
 */
export async function requestCaption(
  c: Context<EdgeEnv>,
  deps: EdgeDeps,
  ask: CaptionAsk,
  { receivedAt, respondAsync = false }: RequestOptions,
): Promise<Caption | undefined> {
  const traceparent = validTraceparent(c.req.header('traceparent'))
  const submission = { ...ask, tenant: c.get('tenant').id, receivedAt, traceparent }
  const timings: string[] = []
  const onTiming = (phase: string, ms: number) => timings.push(`${phase};dur=${ms}`)
  const hold = { respondAsync, signal: c.req.raw.signal, onTiming }
  const { caption, replayed } = await submitOnce(deps, submission, hold, () =>
    claimRequest(c, deps, { makeId: () => newCaptionId(deps), sameBody: true }),
  )
  if (timings.length > 0) c.header('Server-Timing', timings.join(', '))
  if (replayed) c.header(replayedHeader, 'true')
  return caption
}

/** A trace's parent as W3C Trace Context writes it; anything else is left behind. */
const validTraceparent = (header = '') =>
  /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(header) ? header : undefined
