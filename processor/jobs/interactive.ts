import type { FinishedCaption } from '../../edge/contract/caption.ts'
import { TurbineError } from '../../edge/contract/errors.ts'
import { type CaptionJob, decodeJob } from '../../edge/contract/job.ts'
import { keys } from '../../edge/contract/keys.ts'
import { putJson } from '../../infra/store/json.ts'
import { KeyLock } from '../../infra/store/key-lock.ts'
import { getBytes, getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import { isRetry, type RecordHandler } from '../delivery/dead-letters.ts'
import type { Captioner } from '../pipeline/captioner.ts'
import type { Admission, AdmissionRequest } from '../scheduling/admission.ts'

export interface InteractiveJobsOptions {
  captioner: Captioner
  store: ObjectStore
  /** Whether an image can be done in time; default: always. */
  admission?(image: AdmissionRequest): Admission
  /** An edge in this process has decided on every job already. */
  decided?: boolean
  /** Called for every request that is rejected. */
  onShed?(reason: 'full' | 'late'): void
  /** Hands the finished caption to whoever waits at the job's `reply-to` address: whether it surely answers them. */
  deliver(replyTo: string, caption: FinishedCaption): Promise<boolean>
  /** Unix ms. */
  now(): number
}

export interface InteractiveJobs extends RecordHandler {
  /** The 429 for a request whose caller waits and that could not be answered in time; one that is taken gets none. */
  rejection(job: Omit<CaptionJob, 'image'>): TurbineError | undefined
  /** Deadlines of what `rejection` took and whose records have not come yet, unix ms. */
  onTheWay(): number[]
}

/** Share of a request's time that is kept for the way back to its caller. */
const replyShare = 0.1

/**
 * Handles records of the interactive topic: captions the image, writes the result, announces it. The result lies in
 * the store before the promise fulfils, so before the record is committed; a record that comes a second time, after a
 * crash, finds its result there and is not captioned again.
 *
 * A request that could not be answered in time however hard images were pruned is rejected with 429 while its caller
 * waits, and nothing is stored for a caller who has that answer; whoever was given an address already is served,
 * however late. It is decided once: by the edge where it is in the same process, else on the record.
 *
 * Rejects when the record can be captioned later, because the processor shuts down or the store is away, and when it
 * is one for the dead letters; then `onDead` gives the caller a failed caption.
 */
export function interactiveJobs(options: InteractiveJobsOptions): InteractiveJobs {
  const startedAt = options.now()
  const repeats = new KeyLock()
  const replying = new RecentTime()
  const coming = new RecentTime()
  const onTheWay = new Map<string, number>()
  // What comes after the model takes its part of the time that there is.
  const hurriedOf = <T extends Omit<CaptionJob, 'image'>>(job: T) => ({
    ...job,
    deadline: job.deadline - Math.max(replying.ms, replyShare * (job.deadline - job.acceptedAt)),
  })
  const run = async (job: CaptionJob, record: ConsumedRecord, signal: AbortSignal) => {
    const cameBefore = record.timestamp < startedAt || job.repeatable
    const known = cameBefore ? await finishedCaption(options.store, job, record) : undefined
    const hurried = hurriedOf(job)
    const error = known || options.decided || !job.replyTo ? undefined : rejectionOf(options, hurried)
    if (error) await reject(options, job, error)
    else {
      if (onTheWay.delete(job.id)) coming.observe(options.now() - job.acceptedAt)
      const caption = known ?? (await captionOf(options, hurried, record, signal))
      const captionedAt = options.now()
      if (!known) await keep(options, job, caption)
      if (job.replyTo) void options.deliver(job.replyTo, caption)
      if (!known) replying.observe(options.now() - captionedAt)
    }
    if (!(job.image instanceof Uint8Array)) await options.store.delete(job.image.key)
  }
  return {
    async handle(record, signal) {
      const job = decodeJob(record)
      // A repeat may come while the first is being captioned: then it waits, and finds the result.
      await repeats.run(job.id, () => run(job, record, signal))
    },
    rejection(job) {
      const hurried = hurriedOf(job)
      const error = rejectionOf(options, { ...hurried, deadline: hurried.deadline - coming.ms })
      if (!error) onTheWay.set(job.id, hurried.deadline)
      return error
    },
    onTheWay() {
      for (const [id, deadline] of onTheWay) if (deadline <= options.now()) onTheWay.delete(id)
      return [...onTheWay.values()]
    },
    // An image that travels by key stays: the record can be sent again.
    async onDead(record, cause) {
      const job = jobOf(record)
      if (!job) return
      const known = await finishedCaption(options.store, job, record)
      const caption = known ?? failed(job, cause instanceof TurbineError ? cause : internal(cause))
      if (!known) await keep(options, job, caption)
      if (job.replyTo) void options.deliver(job.replyTo, caption)
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

/** What was rejected was not begun; what failed may be sent again by the operator. */
const isRepeatable = (caption: FinishedCaption, record: ConsumedRecord) =>
  caption.status === 'failed' && (isRetry(record) || caption.http_status === 429)

/** The error of a request that is rejected; undefined for one that is served. */
function rejectionOf(
  { admission, onShed, now }: InteractiveJobsOptions,
  image: Required<AdmissionRequest>,
): TurbineError | undefined {
  if (now() >= image.deadline) return undefined
  const decision = admission?.(image) ?? { admitted: true }
  if (decision.admitted) return undefined
  onShed?.(decision.reason)
  return decision.reason === 'full'
    ? tooBusy('queue_full', 'The queue is full.', decision.retryAfterSeconds)
    : tooBusy('overloaded', 'The service has too much work to answer in time.', decision.retryAfterSeconds)
}

/** A result is kept only where somebody may look for it: a repeat of the request, or a caller who may have an address. */
async function reject(options: InteractiveJobsOptions, job: CaptionJob, error: TurbineError) {
  const caption = failed(job, error)
  if (job.repeatable) await keep(options, job, caption)
  const answered = await options.deliver(job.replyTo!, caption)
  if (!answered && !job.repeatable) await keep(options, job, caption)
}

const keep = ({ store }: InteractiveJobsOptions, job: CaptionJob, caption: FinishedCaption) =>
  putJson(store, keys.caption(job.tenant, job.id), caption)

async function captionOf(
  { captioner, store }: InteractiveJobsOptions,
  job: CaptionJob,
  record: ConsumedRecord,
  signal: AbortSignal,
): Promise<FinishedCaption> {
  const { maxPrune, prompt } = job
  // A job that is sent again has nobody who waits for it: it is never late.
  const { acceptedAt, deadline } = isRetry(record)
    ? { acceptedAt: record.timestamp, deadline: undefined }
    : job
  try {
    if (job.model !== captioner.model) throw modelGone(job.model, captioner.model)
    const image = job.image instanceof Uint8Array ? job.image : await getBytes(store, job.image.key)
    if (!image) throw imageLost()
    const task = { image, lane: 'interactive', acceptedAt, deadline, maxPrune, prompt, signal } as const
    return { ...headOf(job), status: 'completed', ...(await captioner.caption(task)) }
  } catch (error) {
    // Where the image or the request is at fault, the caller gets the error; all else is not for the caller.
    if (!(error instanceof TurbineError) || error.retriable) throw error
    return failed(job, error)
  }
}

const modelGone = (asked: string, served: string) =>
  new TurbineError(`The model "${asked}" is not served any more; "${served}" is.`, {
    status: 404,
    code: 'model_not_found',
    param: 'model',
  })

const imageLost = () =>
  new TurbineError('The image of this request is gone. Send the request again.', {
    status: 500,
    code: 'image_lost',
    retriable: false,
  })

const headOf = (job: CaptionJob) =>
  ({ id: job.id, object: 'caption', created: Math.floor(job.acceptedAt / 1000) }) as const

const failed = (job: CaptionJob, error: TurbineError): FinishedCaption => ({
  ...headOf(job),
  status: 'failed',
  http_status: error.status,
  ...error.toBody(),
  ...(error.retryAfterSeconds !== undefined && { retry_after: error.retryAfterSeconds }),
})

const tooBusy = (code: string, reason: string, retryAfterSeconds: number) =>
  new TurbineError(`${reason} Send the request again in ${retryAfterSeconds} s.`, {
    status: 429,
    code,
    retryAfterSeconds,
  })

const internal = (cause: unknown) =>
  new TurbineError('The service failed on this request. Its operator can find out why in the dead letters.', {
    status: 500,
    code: 'internal_error',
    cause,
  })

/** Weight of a time in the estimate. */
const timeWeight = 0.05
/** A time counts as at most this long: pruning harder does not make a slow store faster, ms. */
const longestMs = 100

/** How long something takes of late, ms: an exponentially weighted mean. */
export class RecentTime {
  #ms = 0

  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#ms += timeWeight * (Math.min(Math.max(0, ms), longestMs) - this.#ms)
  }
}
