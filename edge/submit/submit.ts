import { putOnce } from '../../infra/store/json.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { inSpan, SpanKind, traceparent } from '../../infra/telemetry/tracing.ts'
import { timeLimit } from '../../infra/timing.ts'
import { type Caption, maxHoldMs } from '../contract/caption.ts'
import { type CaptionJob, encodeJob, maxInlineImageBytes } from '../contract/job.ts'
import { keys } from '../contract/keys.ts'
import { topics } from '../contract/topics.ts'
import type { EdgeDeps } from '../deps.ts'
import type { KeyClaim } from '../guard/idempotency-claim.ts'

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
  /** As it came, where nothing is traced here. */
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

export type SubmitDeps = Pick<
  EdgeDeps,
  'stream' | 'store' | 'mailbox' | 'now' | 'newId' | 'sloMs' | 'rejection'
>

/** A slow acknowledgement is no error for a caller in a hurry: the stream gets at least this long, ms. */
const leastSendMs = 2_000

/**
 * Puts a request into the stream and holds its caller until the caption is there, the caller's deadline is past
 * or `maxHoldMs` are. What it returns as queued is in the stream durably and has a mark in the store.
 *
 * @param claim of the request's idempotency key: its id is the caption's
 * @returns the finished caption, a queued one, or undefined when the caller went away
 * @throws TurbineError `overloaded`, `queue_full` before anything is kept; StreamUnavailableError (also when the
 * stream did not take it in time), StoreUnavailableError
 */
export async function submitCaption(
  deps: SubmitDeps,
  submission: Submission,
  { respondAsync, signal, onTiming }: HoldOptions,
  claim?: Pick<KeyClaim, 'id' | 'accepted'>,
): Promise<Caption | undefined> {
  if (signal.aborted) return undefined
  const { image, receivedAt, deadlineMs = deps.sloMs, ...asked } = submission
  const head = {
    ...asked,
    id: claim?.id ?? newCaptionId(deps),
    acceptedAt: deps.now(),
    deadline: receivedAt + deadlineMs,
    repeatable: claim && (true as const),
  }
  const { id, tenant, acceptedAt } = head
  const rejection = respondAsync ? undefined : deps.rejection?.(head)
  if (rejection) throw rejection
  const bytes = image instanceof Uint8Array ? image : await image()
  const enqueue = (more: Pick<CaptionJob, 'replyTo' | 'repeatable'>) =>
    send(deps, { ...head, acceptedAt: deps.now(), ...more }, bytes, remainingHoldMs(submission, deps.now()))
  const queued = () => markQueued(deps, { id, created: Math.floor(acceptedAt / 1000), tenant })
  if (respondAsync) {
    await enqueue({})
    await claim?.accepted()
    return queued()
  }
  // Opened before the job goes out: the answer can be quicker than the stream's acknowledgement.
  const letterbox = deps.mailbox.open(id)
  try {
    const sentAt = deps.now()
    await enqueue({ replyTo: letterbox.replyTo })
    const producedAt = deps.now()
    onTiming?.('produce', producedAt - sentAt)
    const waited = letterbox.wait(remainingHoldMs(submission, deps.now()), signal)
    const [finished] = await Promise.all([waited, claim?.accepted()])
    onTiming?.('wait', deps.now() - producedAt)
    if (finished || signal.aborted) return finished
    // What was lost may have been a rejection, and an address is a promise.
    if (letterbox.lost && !claim) await enqueue({ repeatable: true })
    return await queued()
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

/**
 * Sends a job until `leftMs` are over, in which its caller could still be answered. An image that is too large for a
 * record goes to the store first.
 * @throws StreamUnavailableError, StoreUnavailableError
 */
async function send(
  { stream, store }: SubmitDeps,
  head: Omit<CaptionJob, 'image'>,
  image: Uint8Array,
  leftMs: number,
) {
  const byKey = image.length > maxInlineImageBytes
  const key = keys.captionImage(head.tenant, head.id)
  if (byKey) await store.put(key, image)
  const late = () => new StreamUnavailableError('The stream did not take the job in time.')
  const limit = timeLimit(Math.max(leastSendMs, leftMs), late)
  try {
    await inSpan(`send ${topics.interactive}`, { kind: SpanKind.PRODUCER }, () => {
      const job = { ...head, image: byKey ? { key } : image, traceparent: traceparent(head.traceparent) }
      return stream.send(topics.interactive, [encodeJob(job)], { signal: limit.signal })
    })
  } catch (error) {
    // Nobody was promised an answer, so nobody would remove the image; but a refused job may be in the stream all
    // the same, and then a repeat needs it. Failing at that must not hide the cause.
    if (byKey && !head.repeatable) await store.delete(key).catch(() => undefined)
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
