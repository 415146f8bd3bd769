import { getJson, PreconditionFailedError } from '../infra/store/store.ts'
import { type Caption, maxHoldMs } from './contract/caption.ts'
import { type CaptionJob, encodeJob, maxInlineImageBytes } from './contract/job.ts'
import { keys } from './contract/keys.ts'
import { topics } from './contract/topics.ts'
import type { EdgeDeps } from './deps.ts'

/** A request that passed every check. Times are unix ms. */
export interface Submission {
  tenant: string
  model: string
  image: Uint8Array
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
}

type SubmitDeps = Pick<EdgeDeps, 'stream' | 'store' | 'mailbox' | 'now' | 'newId' | 'sloMs'>

/**
 * Puts a request into the stream and holds its caller until the caption is there, the caller's deadline is past
 * or `maxHoldMs` are. What it returns as queued is in the stream durably and has a mark in the store.
 *
 * @returns the finished caption, a queued one, or undefined when the caller went away
 * @throws StreamUnavailableError, StoreUnavailableError
 */
export async function submitCaption(
  deps: SubmitDeps,
  submission: Submission,
  { respondAsync, signal }: HoldOptions,
): Promise<Caption | undefined> {
  if (signal.aborted) return undefined
  const id = `cap_${deps.newId()}`
  const created = Math.floor(deps.now() / 1000)
  if (respondAsync) {
    await enqueue(deps, id, submission)
    return markQueued(deps, { id, created, tenant: submission.tenant })
  }
  // Opened before the job goes out: the answer can be quicker than the stream's acknowledgement.
  const letterbox = deps.mailbox.open(id)
  try {
    await enqueue(deps, id, submission, letterbox.replyTo)
    const finished = await letterbox.wait(remainingHoldMs(submission, deps.now()), signal)
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

async function enqueue(deps: SubmitDeps, id: string, submission: Submission, replyTo?: string) {
  const { tenant, image, receivedAt, deadlineMs = deps.sloMs, model, maxPrune, prompt } = submission
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
    traceparent: submission.traceparent,
  }
  if (image.length <= maxInlineImageBytes) return deps.stream.send(topics.interactive, [encodeJob(job)])
  const key = keys.captionImage(tenant, id)
  await deps.store.put(key, image)
  try {
    await deps.stream.send(topics.interactive, [encodeJob({ ...job, image: { key } })])
  } catch (error) {
    // Nobody was promised an answer, so nobody would remove the image. Failing at that must not hide the cause.
    await deps.store.delete(key).catch(() => undefined)
    throw error
  }
}

/** Leaves the queued mark, or finds the result that was quicker. */
async function markQueued(
  { store }: SubmitDeps,
  { id, created, tenant }: { id: string; created: number; tenant: string },
): Promise<Caption> {
  const key = keys.caption(tenant, id)
  const queued: Caption = { id, object: 'caption', status: 'queued', created }
  try {
    await store.put(key, JSON.stringify(queued), { contentType: 'application/json', ifNoneMatch: '*' })
    return queued
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error
    return (await getJson<Caption>(store, key)) ?? queued
  }
}
