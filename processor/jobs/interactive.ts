import type { FinishedCaption } from '../../edge/contract/caption.ts'
import { TurbineError } from '../../edge/contract/errors.ts'
import { type CaptionJob, decodeJob } from '../../edge/contract/job.ts'
import { keys } from '../../edge/contract/keys.ts'
import { putJson } from '../../infra/store/json.ts'
import { KeyLock } from '../../infra/store/key-lock.ts'
import { getBytes, getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import { isRetry, type RecordHandler } from '../delivery/dead-letters.ts'
import { type Captioned, type Captioner, pruningOf } from '../pipeline/captioner.ts'
import type { Admission, AdmissionRequest } from '../scheduling/admission.ts'

export interface InteractiveJobsOptions {
  captioner: Captioner
  store: ObjectStore
  /** Whether an image can be done in time; default: always. */
  admission?(image: AdmissionRequest): Admission
  /** Told of every request that is turned away. */
  onShed?(reason: 'full' | 'late'): void
  /** Hands the finished caption to whoever waits at the job's `reply-to` address. */
  deliver(replyTo: string, caption: FinishedCaption): void
  /** Unix ms. */
  now(): number
}

/** Share of a request's time that is kept for the way back to its caller. */
const replyShare = 0.1

/**
 * Handles records of the interactive topic: captions the image, writes the result, announces it. The result lies in
 * the store before the promise fulfils, so before the record is committed; a record that comes a second time, after a
 * crash, finds its result there and is not captioned again.
 *
 * A request that could not be answered in time however hard images were pruned is turned away with 429, while its
 * caller waits; whoever was given an address already is served, however late.
 *
 * Rejects when the record can be captioned later, because the processor shuts down or the store is away, and when it
 * is one for the dead letters; then `onDead` gives the caller a failed caption.
 */
export function interactiveJobs(options: InteractiveJobsOptions): RecordHandler {
  const startedAt = options.now()
  const repeats = new KeyLock()
  const replying = new ReplyTime()
  const run = async (job: CaptionJob, record: ConsumedRecord, signal: AbortSignal) => {
    const cameBefore = record.timestamp < startedAt || job.repeatable
    const known = cameBefore ? await finishedCaption(options.store, job, record) : undefined
    // What comes after the model takes its part of the time that there is.
    const replyMs = Math.max(replying.ms, replyShare * (job.deadline - job.acceptedAt))
    const hurried = { ...job, deadline: job.deadline - replyMs }
    const caption = known ?? shed(options, hurried) ?? (await captionOf(options, hurried, record, signal))
    const captionedAt = options.now()
    if (!known) await keep(options, job, caption)
    if (job.replyTo) options.deliver(job.replyTo, caption)
    if (!known) replying.observe(options.now() - captionedAt)
    if (!(job.image instanceof Uint8Array)) await options.store.delete(job.image.key)
  }
  return {
    async handle(record, signal) {
      const job = decodeJob(record)
      // A repeat may come while the first is being captioned: then it waits, and finds the result.
      await (job.repeatable ? repeats.run(job.id, () => run(job, record, signal)) : run(job, record, signal))
    },
    // An image that travels by key stays: the record can be sent again.
    async onDead(record, cause) {
      const job = jobOf(record)
      if (!job) return
      const known = await finishedCaption(options.store, job, record)
      const caption = known ?? failed(job, cause instanceof TurbineError ? cause : internal(cause))
      if (!known) await keep(options, job, caption)
      if (job.replyTo) options.deliver(job.replyTo, caption)
    },
  }
}

/** Undefined for a record that cannot be read. */
function jobOf(record: ConsumedRecord): CaptionJob | undefined {
  try {
    return decodeJob(record)
  } catch {
    return undefined
  }
}

async function finishedCaption(
  store: ObjectStore,
  job: CaptionJob,
  record: ConsumedRecord,
): Promise<FinishedCaption | undefined> {
  const stored = await getJson<FinishedCaption | { status: 'queued' }>(
    store,
    keys.caption(job.tenant, job.id),
  )
  if (!stored || stored.status === 'queued') return undefined
  return isRepeatable(stored, record) ? undefined : stored
}

/** What was turned away was not begun; what failed may be sent again by the operator. */
const isRepeatable = (caption: FinishedCaption, record: ConsumedRecord) =>
  caption.status === 'failed' && (isRetry(record) || caption.http_status === 429)

/** The answer to a request that is turned away; undefined for one that is served. */
function shed(
  { admission, onShed, now }: InteractiveJobsOptions,
  job: CaptionJob,
): FinishedCaption | undefined {
  if (!job.replyTo || now() >= job.deadline) return undefined
  const decision = admission?.(job) ?? { admitted: true }
  if (decision.admitted) return undefined
  onShed?.(decision.reason)
  return failed(job, overloaded(decision.retryAfterSeconds))
}

const keep = ({ store }: InteractiveJobsOptions, job: CaptionJob, caption: FinishedCaption) =>
  putJson(store, keys.caption(job.tenant, job.id), caption)

async function captionOf(
  options: InteractiveJobsOptions,
  job: CaptionJob,
  record: ConsumedRecord,
  signal: AbortSignal,
): Promise<FinishedCaption> {
  try {
    const captioned = await runJob(options, isRetry(record) ? unhurried(job, record) : job, signal)
    return {
      ...headOf(job),
      status: 'completed',
      caption: captioned.caption,
      turbine: pruningOf(captioned),
    }
  } catch (error) {
    // Where the image or the request is at fault, the caller gets the error; all else is not for the caller.
    if (!(error instanceof TurbineError) || error.retriable) throw error
    return failed(job, error)
  }
}

/** A job that is sent again has nobody who waits for it: it is never late. */
const unhurried = (job: CaptionJob, record: ConsumedRecord) => ({
  ...job,
  acceptedAt: record.timestamp,
  deadline: undefined,
})

async function runJob(
  { captioner, store }: InteractiveJobsOptions,
  job: Omit<CaptionJob, 'deadline'> & { deadline?: number },
  signal: AbortSignal,
): Promise<Captioned> {
  if (job.model !== captioner.model)
    throw new TurbineError(`The model "${job.model}" is not served any more; "${captioner.model}" is.`, {
      status: 404,
      code: 'model_not_found',
      param: 'model',
    })
  const image = job.image instanceof Uint8Array ? job.image : await getBytes(store, job.image.key)
  if (!image)
    throw new TurbineError('The image of this request is gone. Send the request again.', {
      status: 500,
      code: 'image_lost',
      retriable: false,
    })
  const { acceptedAt, deadline, maxPrune, prompt } = job
  return captioner.caption({ image, lane: 'interactive', acceptedAt, deadline, maxPrune, prompt, signal })
}

const headOf = (job: CaptionJob) =>
  ({ id: job.id, object: 'caption', created: Math.floor(job.acceptedAt / 1000) }) as const

const failed = (job: CaptionJob, error: TurbineError): FinishedCaption => ({
  ...headOf(job),
  status: 'failed',
  http_status: error.status,
  ...error.toBody(),
  ...(error.retryAfterSeconds !== undefined && { retry_after: error.retryAfterSeconds }),
})

const overloaded = (retryAfterSeconds: number) =>
  new TurbineError(
    `The service has too much work to answer in time. Send the request again in ${retryAfterSeconds} s.`,
    { status: 429, code: 'overloaded', retryAfterSeconds },
  )

const internal = (cause: unknown) =>
  new TurbineError('The service failed on this request. Its operator can find out why in the dead letters.', {
    status: 500,
    code: 'internal_error',
    cause,
  })

/** Weight of a reply in the estimate. */
const replyWeight = 0.05
/** A reply counts as at most this long: pruning harder does not make a slow store faster, ms. */
const longestReplyMs = 100

/** How long it takes of late from a caption to the caller's answer, ms: an exponentially weighted mean. */
export class ReplyTime {
  #ms = 0

  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#ms += replyWeight * (Math.min(Math.max(0, ms), longestReplyMs) - this.#ms)
  }
}
