import { putOnce } from '../../infra/store/json.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { timeLimit } from '../../infra/timing.ts'
import { type Caption, maxHoldMs } from '../contract/caption.ts'
import { type CaptionJob, encodeJob, maxInlineImageBytes } from '../contract/job.ts'
import { keys } from '../contract/keys.ts'
import { topics } from '../contract/topics.ts'
import type { EdgeDeps } from '../deps.ts'

/** A request that passed every check. Times are unix ms. */
export interface Submission {
  tenant: string
  model: string
  /** The image, or how to get it, for what is fetched only when the job goes out. */
  image: Uint8Array | (() => Promise<Uint8Array>)
  /** When the request came. */
  receivedAt: number
  /** When the caller wants the answer, ms after `receivedAt`. */
  deadlineMs?: number
  /** Highest share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  prompt?: string
  traceparent?: string
}

export interface HoldOptions {
  /** The caller wants an address at once, not the answer. */
  respondAsync: boolean
  /** Aborts when the caller goes away. */
  signal: AbortSignal
  /** Told how long the stream took to have the job, and how long the caller then waited for its caption. */
  onTiming?(phase: 'produce' | 'wait', ms: number): void
}

/** The request came with an idempotency key. */
export interface SubmitClaim {
  /** The caption's id. */
  id: string
  /** Called when the stream has the job. */
  accepted(): Promise<void>
}

export type SubmitDeps = Pick<EdgeDeps, 'stream' | 'store' | 'mailbox' | 'now' | 'newId' | 'sloMs'>

/** A slow acknowledgement is no error for a caller in a hurry: the stream gets at least this long, ms. */
const leastSendMs = 2_000

/**
 * Puts a request into the stream and holds its caller until the caption is there, the caller's deadline is past
 * or `maxHoldMs` are. What it returns as queued is in the stream durably and has a mark in the store.
 *
 * @returns the finished caption, a queued one, or undefined when the caller went away
 * @throws StreamUnavailableError (also when the stream did not take it in time), StoreUnavailableError
 */
export async function submitCaption(
  deps: SubmitDeps,
  submission: Submission,
  { respondAsync, signal, onTiming }: HoldOptions,
  claim?: SubmitClaim,
): Promise<Caption | undefined> {
  if (signal.aborted) return undefined
  const id = claim?.id ?? newCaptionId(deps)
  const created = Math.floor(deps.now() / 1000)
  const { image } = submission
  const outgoing: Outgoing = {
    id,
    submission,
    image: image instanceof Uint8Array ? image : await image(),
    repeatable: claim ? true : undefined,
  }
  if (respondAsync) {
    await enqueue(deps, outgoing)
    await claim?.accepted()
    return markQueued(deps, { id, created, tenant: submission.tenant })
  }
  // Opened before the job goes out: the answer can be quicker than the stream's acknowledgement.
  const letterbox = deps.mailbox.open(id)
  try {
    const sentAt = deps.now()
    await enqueue(deps, { ...outgoing, replyTo: letterbox.replyTo })
    const producedAt = deps.now()
    onTiming?.('produce', producedAt - sentAt)
    const waited = letterbox.wait(remainingHoldMs(submission, deps.now()), signal)
    const [finished] = await Promise.all([waited, claim?.accepted()])
    onTiming?.('wait', deps.now() - producedAt)
    if (finished) return finished
    return signal.aborted ? undefined : await markQueued(deps, { id, created, tenant: submission.tenant })
  } finally {
    letterbox.close()
  }
}

/** How long a caller may still be held, ms. */
export function remainingHoldMs(
  { receivedAt, deadlineMs = maxHoldMs }: Pick<Submission, 'receivedAt' | 'deadlineMs'>,
  now: number,
): number {
  return Math.max(0, receivedAt + Math.min(deadlineMs, maxHoldMs) - now)
}

/** The id of a new caption. */
export const newCaptionId = ({ newId }: Pick<EdgeDeps, 'newId'>) => `cap_${newId()}`

/** A job on its way out. */
interface Outgoing {
  id: string
  submission: Submission
  image: Uint8Array
  replyTo?: string
  repeatable?: true
}

async function enqueue(deps: SubmitDeps, { id, submission, image, replyTo, repeatable }: Outgoing) {
  const { tenant, receivedAt, deadlineMs = deps.sloMs, model, maxPrune, prompt, traceparent } = submission
  const job: CaptionJob = {
    id,
    tenant,
    model,
    image,
    acceptedAt: deps.now(),
    deadline: receivedAt + deadlineMs,
    maxPrune,
    prompt,
    replyTo,
    traceparent,
    repeatable,
  }
  if (image.length <= maxInlineImageBytes) return sendInTime(deps, submission, job)
  const key = keys.captionImage(tenant, id)
  await deps.store.put(key, image)
  try {
    await sendInTime(deps, submission, { ...job, image: { key } })
  } catch (error) {
    // Nobody was promised an answer, so nobody would remove the image; but a refused job may be in the stream all
    // the same, and then a repeat needs it. Failing at that must not hide the cause.
    if (!repeatable) await deps.store.delete(key).catch(() => undefined)
    throw error
  }
}

/**
 * Sends until the time is up in which the caller could still be answered.
 * @throws StreamUnavailableError
 */
async function sendInTime({ stream, now }: SubmitDeps, submission: Submission, job: CaptionJob) {
  const late = () => new StreamUnavailableError('The stream did not take the job in time.')
  const limit = timeLimit(Math.max(leastSendMs, remainingHoldMs(submission, now())), late)
  try {
    await stream.send(topics.interactive, [encodeJob(job)], { signal: limit.signal })
  } catch (error) {
    throw limit.signal.aborted ? limit.signal.reason : error
  } finally {
    limit.clear()
  }
}

/** Leaves the queued mark, or finds the result that was quicker. `created` is in unix seconds. */
export async function markQueued(
  { store }: Pick<SubmitDeps, 'store'>,
  { id, created, tenant }: { id: string; created: number; tenant: string },
): Promise<Caption> {
  const queued: Caption = { id, object: 'caption', status: 'queued', created }
  return putOnce<Caption>(store, keys.caption(tenant, id), queued)
}
