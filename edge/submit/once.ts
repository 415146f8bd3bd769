import type { Context } from 'hono'
import { getJson } from '../../infra/store/store.ts'
import { sleep } from '../../infra/timing.ts'
import type { Caption, FinishedCaption } from '../contract/caption.ts'
import { keys } from '../contract/keys.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { claimRequest, replayedHeader } from '../guard/idempotency.ts'
import { type KeyClaim, keyInUse } from '../guard/idempotency-claim.ts'
import {
  type HoldOptions,
  markQueued,
  newCaptionId,
  remainingHoldMs,
  type Submission,
  type SubmitDeps,
  submitCaption,
} from './submit.ts'

/**
 * Submits a request once per idempotency key: a retry gets the result of the first request, and only a job that the
 * stream never accepted is sent again, with the same id.
 *
 * @param claim claims the request's key; undefined without one
 * @returns the caption as of `submitCaption`, and whether it is that of an earlier request with the same key
 * @throws what `submitCaption` and `claim` throw; TurbineError `idempotency_key_in_use`
 */
async function submitOnce(
  deps: SubmitDeps,
  submission: Submission,
  hold: HoldOptions,
  claim: () => Promise<KeyClaim | undefined>,
): Promise<{ caption: Caption | undefined; replayed: boolean }> {
  const first = await claim()
  if (!first) return { caption: await submitCaption(deps, submission, hold), replayed: false }
  const claimed = first.standing === 'running' ? await outcomeOf(deps, submission, hold, claim) : first
  if (!claimed) return { caption: undefined, replayed: false }
  if (claimed.standing === 'accepted') {
    const caption = await awaitStored(deps, submission, hold, claimed.id)
    if (!wasRejected(caption)) return { caption, replayed: true }
  }
  try {
    return { caption: await submitCaption(deps, submission, hold, claimed), replayed: false }
  } catch (error) {
    await claimed.failed(error)
    throw error
  }
}

/** A rejected request did not start, so a retry is a new attempt. */
const wasRejected = (caption: Caption | undefined) =>
  caption?.status === 'failed' && caption.http_status === 429

/** Waits for the request that holds the key; undefined when the caller disconnects. */
async function outcomeOf(
  deps: SubmitDeps,
  submission: Submission,
  { signal }: HoldOptions,
  claim: () => Promise<KeyClaim | undefined>,
): Promise<KeyClaim | undefined> {
  const until = deps.now() + remainingHoldMs(submission, deps.now())
  const attempt = async () => {
    const claimed = await claim()
    return claimed?.standing === 'running' ? undefined : claimed
  }
  const claimed = await pollUntil(attempt, { until, now: deps.now, signal })
  if (!claimed && !signal.aborted) throw keyInUse()
  return claimed
}

/** Waits for the result of a job in the stream; after the hold time, returns its queued mark. */
async function awaitStored(
  deps: SubmitDeps,
  submission: Submission,
  { respondAsync, signal }: HoldOptions,
  id: string,
): Promise<Caption | undefined> {
  const { tenant } = submission
  const started = deps.now()
  const until = respondAsync ? started : started + remainingHoldMs(submission, started)
  const attempt = async () => {
    const caption = await getJson<Caption>(deps.store, keys.caption(tenant, id))
    return caption && caption.status !== 'queued' ? (caption as FinishedCaption) : undefined
  }
  const finished = await pollUntil(attempt, { until, now: deps.now, signal })
  if (finished || signal.aborted) return finished
  return markQueued(deps, { id, created: Math.floor(started / 1000), tenant })
}

/** Caption request of any endpoint. */
export type CaptionAsk = Omit<Submission, 'tenant' | 'receivedAt' | 'traceparent'>

export interface RequestOptions {
  /** Arrival of the request, unix ms. */
  receivedAt: number
  /** Respond with 202 at once. Default: false. */
  respondAsync?: boolean
  /** Called with what is settled of the caption, while it grows. */
  onPart?: HoldOptions['onPart']
  /** Aborts when the caller is gone. Default: that of the request. */
  signal?: AbortSignal
}

/**
 * Submits a tenant's request, once per `Idempotency-Key`. The request's body must have been read: retries must have the
 * same.
 * @returns and throws what `submitOnce` does
 */
export async function requestCaption(
  c: Context<EdgeEnv>,
  deps: EdgeDeps,
  ask: CaptionAsk,
  { receivedAt, respondAsync = false, onPart, signal = c.req.raw.signal }: RequestOptions,
): Promise<Caption | undefined> {
  const traceparent = c.req.header('traceparent')
  const submission = { ...ask, tenant: c.get('tenant').id, receivedAt, traceparent }
  const timings: string[] = []
  const onTiming = (phase: string, ms: number) => timings.push(`${phase};dur=${ms}`)
  const onSent = () => {
    // The stream, or the store, has a copy.
    c.get('body').forget()
    c.get('body').release()
  }
  const hold = { respondAsync, signal, onTiming, onSent, onPart }
  const { caption, replayed } = await submitOnce(deps, submission, hold, () =>
    claimRequest(c, deps, { makeId: () => newCaptionId(deps), sameBody: true }),
  )
  // The head of a response that has begun has gone.
  if (c.finalized) return caption
  if (timings.length > 0) c.header('Server-Timing', timings.join(', '))
  if (replayed) c.header(replayedHeader, 'true')
  return caption
}

export interface PollOptions {
  /** No further attempt after this time, unix ms; the first is always made. */
  until: number
  /** Unix ms. */
  now(): number
  signal: AbortSignal
}

const firstPauseMs = 50
const longestPauseMs = 500
const pauseGrowth = 1.5

/** Retries until there is a value; undefined after `until` or when the signal aborts. */
export async function pollUntil<T>(
  attempt: () => Promise<T | undefined>,
  { until, now, signal }: PollOptions,
): Promise<T | undefined> {
  for (let pause = firstPauseMs; !signal.aborted; pause = Math.min(pause * pauseGrowth, longestPauseMs)) {
    const value = await attempt()
    if (value !== undefined) return value
    const left = until - now()
    if (left <= 0) return undefined
    await sleep(Math.min(pause, left), signal)
  }
  return undefined
}
