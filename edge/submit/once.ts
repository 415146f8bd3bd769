import { getJson } from '../../infra/store/store.ts'
import type { Caption, FinishedCaption } from '../contract/caption.ts'
import { keys } from '../contract/keys.ts'
import { type Claim, keyInUse } from '../guard/idempotency-claim.ts'
import { pollUntil } from './poll.ts'
import {
  type HoldOptions,
  markQueued,
  remainingHoldMs,
  type Submission,
  type SubmitDeps,
  submitCaption,
} from './submit.ts'

export interface OnceAnswer {
  /** As of `submitCaption`. */
  caption: Caption | undefined
  /** An earlier request with the same idempotency key brought it about. */
  replayed: boolean
}

/**
 * Submits a request once, however often it comes with the same idempotency key: a repeat is answered as the first
 * request would have been, and only what the stream never took is sent again, under the same id.
 *
 * @param claim claims the request's key; undefined when it has none
 * @throws what `submitCaption` and `claim` throw; TurbineError `idempotency_key_in_use`
 */
export async function submitOnce(
  deps: SubmitDeps,
  submission: Submission,
  hold: HoldOptions,
  claim: () => Promise<Claim | undefined>,
): Promise<OnceAnswer> {
  const first = await claim()
  if (!first) return { caption: await submitCaption(deps, submission, hold), replayed: false }
  const claimed = first.standing === 'running' ? await outcomeOf(deps, submission, hold, claim) : first
  if (!claimed) return { caption: undefined, replayed: false }
  if (claimed.standing === 'accepted') {
    const caption = await awaitStored(deps, submission, hold, claimed.id)
    if (!wasTurnedAway(caption)) return { caption, replayed: true }
  }
  try {
    return { caption: await submitCaption(deps, submission, hold, claimed), replayed: false }
  } catch (error) {
    await claimed.failed(error)
    throw error
  }
}

/** It was not begun, so a repeat is a new try. */
const wasTurnedAway = (caption: Caption | undefined) =>
  caption?.status === 'failed' && caption.http_status === 429

/** How it ends with the request that has the key now: undefined when the caller went away meanwhile. */
async function outcomeOf(
  deps: SubmitDeps,
  submission: Submission,
  { signal }: HoldOptions,
  claim: () => Promise<Claim | undefined>,
): Promise<Claim | undefined> {
  const until = deps.now() + remainingHoldMs(submission, deps.now())
  const attempt = async () => {
    const claimed = await claim()
    return claimed?.standing === 'running' ? undefined : claimed
  }
  const claimed = await pollUntil(attempt, { until, now: deps.now, signal })
  if (!claimed && !signal.aborted) throw keyInUse()
  return claimed
}

/** The result of a job that is in the stream already, or its queued mark when the caller can be held no longer. */
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
