import { putOnce } from '../../infra/store/json.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { inSpan, SpanKind, traceparent } from '../../infra/telemetry/tracing.ts'
import { timeLimit } from '../../infra/timing.ts'
import { type Caption, maxHoldMs } from '../contract/caption.ts'
import { type CaptionJob, encodeJob, maxInlineImageBytes, packImages } from '../contract/job.ts'
import { keys } from '../contract/keys.ts'
import type { CaptionPart } from '../contract/reply.ts'
import { jobTopic } from '../contract/topics.ts'
import type { EdgeDeps } from '../deps.ts'
import type { KeyClaim } from '../guard/idempotency-claim.ts'

/** What a job says of its caption as its request does. */
type JobText = Pick<CaptionJob, 'maxTokens' | 'stop' | 'request' | 'settings' | 'n' | 'warnings'>

/** Validated request. Times are unix ms. */
export interface Submission extends JobText {
  tenant: string
  model: string
  /** The images, or a function that fetches them when the job is sent. */
  images: readonly Uint8Array[] | (() => Promise<readonly Uint8Array[]>)
  /** Arrival of the request. */
  receivedAt: number
  /** Deadline of the response, ms after `receivedAt`. */
  deadlineMs?: number
  /** Maximum share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  /** Of the request, passed on if nothing is traced here. */
  traceparent?: string
}

export interface HoldOptions {
  /** Respond with 202 at once. */
  respondAsync: boolean
  /** Aborts when the caller disconnects. */
  signal: AbortSignal
  /** Called with the time to send the job, and the time that the caller waited for its caption. */
  onTiming?(phase: 'produce' | 'wait', ms: number): void
  /** Called when the job is sent and its image is needed no longer. */
  onSent?(): void
  /** The caller reads along: called with what is settled of the caption while it grows, by models that make it step by step. */
  onPart?(part: CaptionPart): void
}

export type SubmitDeps = Pick<
  EdgeDeps,
  'stream' | 'store' | 'mailbox' | 'now' | 'newId' | 'sloMs' | 'rejection' | 'withdraw' | 'ownTopics'
>

/** Minimum time for the stream to acknowledge, whatever the deadline, ms. */
const leastSendMs = 2_000

/**
 * Sends a request to the stream and holds the response until the caption is ready, the deadline passes or `maxHoldMs`
 * have passed, and longer while parts of the caption come. A caption returned as queued is durably in the stream and has a mark in the store.
 *
 * @param claim of the request's idempotency key: its id is the caption's
 * @returns the finished or queued caption, or undefined when the caller disconnected
 * @throws TurbineError `overloaded`, `queue_full` before anything is stored; StreamUnavailableError (also when the
 * stream did not acknowledge in time), StoreUnavailableError
 */
export async function submitCaption(
  deps: SubmitDeps,
  submission: Submission,
  { respondAsync, signal, onTiming, onSent, onPart }: HoldOptions,
  claim?: Pick<KeyClaim, 'id' | 'accepted'>,
): Promise<Caption | undefined> {
  if (signal.aborted) return undefined
  const { images, receivedAt, deadlineMs = deps.sloMs, ...asked } = submission
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
  const orWithdraw = async <T>(step: Promise<T>): Promise<T> => {
    try {
      return await step
    } catch (error) {
      deps.withdraw?.(id)
      throw error
    }
  }
  const fetched = typeof images === 'function' ? await orWithdraw(images()) : images
  let packed: ReturnType<typeof packImages> | undefined = packImages(fetched)
  const enqueue = (more: Pick<CaptionJob, 'replyTo' | 'streamed' | 'repeatable'>) =>
    orWithdraw(
      send(
        deps,
        { ...head, acceptedAt: deps.now(), ...more, imageSizes: packed!.imageSizes },
        packed!.bytes,
        remainingHoldMs(submission, deps.now()),
      ),
    )
  const sent = () => {
    packed = undefined
    onSent?.()
  }
  const queued = () => markQueued(deps, { id, created: Math.floor(acceptedAt / 1000), tenant })
  if (respondAsync) {
    await enqueue({})
    sent()
    await claim?.accepted()
    return queued()
  }
  // Opened before the job is sent: the reply can be faster than the stream's acknowledgement.
  const reply = deps.mailbox.open(id, onPart)
  try {
    const sentAt = deps.now()
    await enqueue({ replyTo: reply.replyTo, ...(onPart && { streamed: true }) })
    // A job whose reply may get lost is sent again then.
    if (reply.lost === undefined) sent()
    const producedAt = deps.now()
    onTiming?.('produce', producedAt - sentAt)
    const waited = reply.wait(remainingHoldMs(submission, deps.now()), signal)
    const [finished] = await Promise.all([waited, claim?.accepted()])
    onTiming?.('wait', deps.now() - producedAt)
    if (finished || signal.aborted) return finished
    // A rejection may have been lost, and accepted (202) requests always complete.
    if (reply.lost && !claim) await enqueue({ repeatable: true })
    await deps.stream.sync?.()
    return await queued()
  } finally {
    reply.close()
  }
}

/** Time that a response may still be held, ms. */
export function remainingHoldMs(
  { receivedAt, deadlineMs = maxHoldMs }: Pick<Submission, 'receivedAt' | 'deadlineMs'>,
  now: number,
): number {
  return Math.max(0, receivedAt + Math.min(deadlineMs, maxHoldMs) - now)
}

export const newCaptionId = ({ newId }: Pick<EdgeDeps, 'newId'>) => `cap_${newId()}`

/**
 * Sends a job within `leftMs`. An image too large for a record is stored first.
 * @throws StreamUnavailableError, StoreUnavailableError
 */
async function send(
  { stream, store, ownTopics }: SubmitDeps,
  head: Omit<CaptionJob, 'image'>,
  image: Uint8Array,
  leftMs: number,
) {
  const { topic } = jobTopic('interactive', (await ownTopics?.(head.model)) ? head.model : undefined)
  const byKey = image.length > maxInlineImageBytes
  const key = keys.captionImage(head.tenant, head.id)
  if (byKey) await store.put(key, image)
  const late = () => new StreamUnavailableError('The stream did not acknowledge the job in time.')
  const limit = timeLimit(Math.max(leastSendMs, leftMs), late)
  try {
    await inSpan(`send ${topic}`, { kind: SpanKind.PRODUCER }, () => {
      const job = {
        ...head,
        image: byKey ? { key, bytes: image.length } : image,
        traceparent: traceparent(head.traceparent),
      }
      // Whoever waits without an address to ask at later loses the connection with the power, too.
      const unsynced = head.replyTo !== undefined && !head.repeatable
      return stream.send(topic, [encodeJob(job)], { signal: limit.signal, unsynced })
    })
  } catch (error) {
    // Nothing was accepted, so nobody would delete the image; but the job may be in the stream nevertheless, and then
    // a retry needs it. A failed clean-up must not hide the cause.
    if (byKey && !head.repeatable) await store.delete(key).catch(() => undefined)
    throw limit.signal.aborted ? limit.signal.reason : error
  } finally {
    limit.clear()
  }
}

/** Stores the queued mark, unless the result is already stored. `created` is in unix seconds. */
export async function markQueued(
  { store }: Pick<SubmitDeps, 'store'>,
  { id, created, tenant }: { id: string; created: number; tenant: string },
): Promise<Caption> {
  const queued: Caption = { id, object: 'caption', status: 'queued', created }
  return putOnce<Caption>(store, keys.caption(tenant, id), queued)
}
