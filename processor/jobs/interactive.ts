import { type FinishedCaption, maxBodyBytes } from '../../edge/contract/caption.ts'
import { retryLater, TurbineError } from '../../edge/contract/errors.ts'
import { type CaptionJob, decodeJob, imagesOf } from '../../edge/contract/job.ts'
import { keys } from '../../edge/contract/keys.ts'
import type { FairBudget, Reservation } from '../../infra/fair-budget.ts'
import { getVersioned, swapJson } from '../../infra/store/json.ts'
import { KeyLock } from '../../infra/store/key-lock.ts'
import { getBytes, getJson, type ObjectStore } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import { releaseImages } from '../decoding/loaders/loaded-image.ts'
import { isRetry, type RecordHandler } from '../delivery/dead-letters.ts'
import { ResultWrites } from '../delivery/result-writes.ts'
import { ask } from '../pipeline/ask.ts'
import type { Captioner } from '../pipeline/captioner.ts'
import type { Admission, AdmissionRequest } from '../scheduling/admission.ts'

/** Line to the caller who waits for a job's caption. */
export interface CallerLine {
  /** Aborts when the caller has left. */
  readonly left: AbortSignal
  /** Tells the text so far of one of the captions, for a caller who reads along. */
  show(index: number, text: string): void
  /** Nothing more is told. */
  close(): void
}

export interface InteractiveJobsOptions {
  captioner: Captioner
  store: ObjectStore
  /** Admission of an image; default: always admitted. */
  admission?(image: AdmissionRequest): Admission
  /** An edge in this process has already decided on every job. */
  decided?: boolean
  /** Reads an image that is sent by key; undefined if it is lost. Default: in this thread, from the store. */
  load?(key: string, options: { signal: AbortSignal }): Promise<Uint8Array | undefined>
  /** Memory of images that are sent by key, shared by tenants, bytes: an image is read when there is room. Default: any. */
  memory?: FairBudget
  /** Writes of results, of all lanes; default: this lane's own. */
  results?: ResultWrites
  /** Called for every rejected request. */
  onRejected?(reason: 'full' | 'late'): void
  /** Delivers the finished caption to the caller at the job's `reply-to`. @returns whether the caller has it for sure */
  deliver(replyTo: string, caption: FinishedCaption): Promise<boolean>
  /** Opens a line to the caller of a job, at its `reply-to`; default: nothing is known before the end. */
  lineTo?(job: CaptionJob): CallerLine
  /** Unix ms. */
  now(): number
}

export interface InteractiveJobs extends RecordHandler {
  /** The 429 of a request whose caller waits and that would miss its deadline; undefined if admitted. */
  rejection(job: Omit<CaptionJob, 'image'>): TurbineError | undefined
  /** No record of an admitted request will come. */
  withdraw(id: string): void
  /** Deadlines of admitted requests whose records have not arrived yet, unix ms. */
  inTransit(): number[]
  /** Jobs of a tenant being handled. */
  runningOf(tenant: string): number
}

/** Share of a request's time reserved for the reply. */
const replyShare = 0.1

/**
 * Handles records of the interactive topic: captions the image, stores the result, replies to the caller. The result is
 * stored before the record is committed; a record redelivered after a crash finds its result and is not captioned again.
 *
 * A request that would miss its deadline at maximum pruning is rejected with 429 while its caller waits, and nothing is
 * stored for a caller who has that response. Accepted (202) requests always complete, however late. Admission is decided
 * once: by the edge if it is in the same process, else on the record.
 *
 * The caption of a caller who has left is given up, and nothing is stored, unless a repeat of the request may ask for it.
 *
 * Rejects when the record can be retried later (shutdown, store unavailable), and when it belongs into the dead letters;
 * then `onDead` replies with a failed caption.
 */
export function interactiveJobs(options: InteractiveJobsOptions): InteractiveJobs {
  const startedAt = options.now()
  const { results = new ResultWrites() } = options
  const retries = new KeyLock()
  const running = new Map<string, number>()
  const count = (tenant: string, by: 1 | -1) => {
    const left = (running.get(tenant) ?? 0) + by
    if (left > 0) running.set(tenant, left)
    else running.delete(tenant)
  }
  const replyTime = new RecentTime()
  const transitTime = new RecentTime()
  const inTransit = new Map<string, number>()
  // The steps after the model need their part of the time.
  const withReplyTime = <T extends Omit<CaptionJob, 'image'>>(job: T) => ({
    ...job,
    deadline: job.deadline - Math.max(replyTime.ms, replyShare * (job.deadline - job.acceptedAt)),
  })
  const run = async (job: CaptionJob, record: ConsumedRecord, signal: AbortSignal) => {
    const mayHaveRun = record.timestamp < (record.ownedSince ?? startedAt) || job.repeatable
    const known = mayHaveRun ? await finishedCaption(options.store, job, record) : undefined
    const timed = withReplyTime(job)
    const error = known || options.decided || !job.replyTo ? undefined : rejectionOf(options, timed)
    if (error) await reject(options, job, error, record)
    else {
      if (inTransit.delete(job.id)) transitTime.observe(options.now() - job.acceptedAt)
      if (!known) await results.ready(signal)
      const made = known ?? (await captionOf(options, timed, record, signal))
      const captionedAt = options.now()
      const caption = made && (known ?? (await results.write(() => keep(options, job, made, record), signal)))
      if (caption && job.replyTo) void options.deliver(job.replyTo, caption)
      if (caption && !known) replyTime.observe(options.now() - captionedAt)
    }
    if (!(job.image instanceof Uint8Array)) await options.store.delete(job.image.key)
  }
  return {
    async handle(record, signal) {
      const job = decodeJob(record)
      count(job.tenant, 1)
      try {
        // A duplicate that arrives while the first is captioned waits, and finds the result.
        await retries.run(job.id, () => run(job, record, signal))
      } finally {
        count(job.tenant, -1)
      }
    },
    runningOf: (tenant) => running.get(tenant) ?? 0,
    rejection(job) {
      const timed = withReplyTime(job)
      const error = rejectionOf(options, { ...timed, deadline: timed.deadline - transitTime.ms })
      if (!error) inTransit.set(job.id, timed.deadline)
      return error
    },
    withdraw(id) {
      inTransit.delete(id)
    },
    inTransit() {
      for (const [id, deadline] of inTransit) if (deadline <= options.now()) inTransit.delete(id)
      return [...inTransit.values()]
    },
    // An image sent by key stays: the record can be resent.
    async onDead(record, cause) {
      const job = jobOf(record)
      if (!job) return
      const error = cause instanceof TurbineError ? cause : internal(cause)
      const caption = await keep(options, job, failed(job, error), record)
      if (job.replyTo) void options.deliver(job.replyTo, caption)
    },
  }
}

/** Undefined for an unreadable record. */
function jobOf(record: ConsumedRecord): CaptionJob | undefined {
  try {
    return decodeJob(record)
  } catch {
    return undefined
  }
}

type StoredCaption = FinishedCaption | { status: 'queued' }

async function finishedCaption(
  store: ObjectStore,
  job: CaptionJob,
  record: ConsumedRecord,
): Promise<FinishedCaption | undefined> {
  const stored = await getJson<StoredCaption>(store, keys.caption(job.tenant, job.id))
  return stored && isFinal(stored, record) ? stored : undefined
}

const isFinal = (stored: StoredCaption, record: ConsumedRecord): stored is FinishedCaption =>
  stored.status !== 'queued' && !isRepeatable(stored, record)

/** A rejected job did not start; a failed one can be resent by the operator. */
const isRepeatable = (caption: FinishedCaption, record: ConsumedRecord) =>
  caption.status === 'failed' && (isRetry(record) || caption.http_status === 429)

/** Error of a rejected request; undefined if admitted. */
function rejectionOf(
  { admission, onRejected, now }: InteractiveJobsOptions,
  image: AdmissionRequest & { deadline: number },
): TurbineError | undefined {
  if (now() >= image.deadline) return undefined
  const decision = admission?.(image) ?? { admitted: true }
  if (decision.admitted) return undefined
  onRejected?.(decision.reason)
  return decision.reason === 'full'
    ? tooBusy('queue_full', 'The queue is full.', decision.retryAfterSeconds)
    : tooBusy(
        'overloaded',
        'The service is overloaded and cannot respond in time.',
        decision.retryAfterSeconds,
      )
}

/** Stores a rejection only if it may be looked up: by a retry, or by a caller who may have a 202. */
async function reject(
  options: InteractiveJobsOptions,
  job: CaptionJob,
  error: TurbineError,
  record: ConsumedRecord,
) {
  const caption = failed(job, error)
  if (job.repeatable) await keep(options, job, caption, record)
  const answered = await options.deliver(job.replyTo!, caption)
  if (!answered && !job.repeatable) await keep(options, job, caption, record)
}

/**
 * Stores the result of a job, unless another processor that had the record too was first (one that lost its partition
 * while it worked): whoever asks gets the same result, whenever.
 * @returns the result that holds
 */
async function keep(
  { store }: InteractiveJobsOptions,
  job: CaptionJob,
  caption: FinishedCaption,
  record: ConsumedRecord,
): Promise<FinishedCaption> {
  const key = keys.caption(job.tenant, job.id)
  // Where no caller waits there is a mark that the job is queued.
  let found = job.replyTo ? undefined : await getVersioned<StoredCaption>(store, key)
  for (;;) {
    if (found && isFinal(found.value, record)) return found.value
    if (await swapJson(store, key, caption, found?.etag)) return caption
    found = await getVersioned<StoredCaption>(store, key)
  }
}

/** Undefined when nobody wants the caption any more. */
async function captionOf(
  options: InteractiveJobsOptions,
  job: CaptionJob,
  record: ConsumedRecord,
  ending: AbortSignal,
): Promise<FinishedCaption | undefined> {
  // Of a job that is resent no caller waits.
  const line = job.replyTo === undefined || isRetry(record) ? undefined : options.lineTo?.(job)
  const left = job.repeatable ? undefined : line?.left
  try {
    const signal = left ? AbortSignal.any([ending, left]) : ending
    return await makeCaption(options, job, record, { line, signal })
  } catch (error) {
    if (left?.aborted && !ending.aborted) return undefined
    throw error
  } finally {
    line?.close()
  }
}

async function makeCaption(
  { captioner, store, memory, load = (key) => getBytes(store, key) }: InteractiveJobsOptions,
  job: CaptionJob,
  record: ConsumedRecord,
  { line, signal }: { line: CallerLine | undefined; signal: AbortSignal },
): Promise<FinishedCaption> {
  const { maxPrune, maxTokens, stop, request, settings, n, warnings } = job
  // No caller waits for a resent job, so it is never late.
  const { acceptedAt, deadline } = isRetry(record)
    ? { acceptedAt: record.timestamp, deadline: undefined }
    : job
  let room: Reservation | undefined
  let image: Uint8Array | undefined
  try {
    if (job.model !== captioner.model) throw modelGone(job.model, captioner.model)
    if (!(job.image instanceof Uint8Array)) {
      const { bytes = maxBodyBytes } = job.image
      room = await memory?.reserve(job.tenant, bytes, { priority: job.deadline, signal })
    }
    image = job.image instanceof Uint8Array ? job.image : await load(job.image.key, { signal })
    if (!image) throw imageLost()
    const answer = await ask(captioner, {
      images: imagesOf(job, image),
      lane: 'interactive',
      owner: job.tenant,
      ...{ acceptedAt, deadline, maxPrune, maxTokens, stop, request, settings, n, warnings, signal },
      ...(job.streamed && line && { onText: line.show }),
    })
    return { ...headOf(job), status: 'completed', ...answer }
  } catch (error) {
    // Callers get errors of the image or the request only.
    if (!(error instanceof TurbineError) || error.retriable) throw error
    return failed(job, error)
  } finally {
    if (image) releaseImages([image])
    room?.release()
  }
}

const modelGone = (asked: string, served: string) =>
  new TurbineError(`The model "${asked}" is no longer served; "${served}" is.`, {
    status: 404,
    code: 'model_not_found',
    param: 'model',
  })

const imageLost = () =>
  new TurbineError('The image of this request was lost. Retry the request.', {
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
  retryLater(code, `${reason} Retry in ${retryAfterSeconds} s.`, { status: 429, retryAfterSeconds })

const internal = (cause: unknown) =>
  new TurbineError('The service failed on this request. The operator finds the reason in the dead letters.', {
    status: 500,
    code: 'internal_error',
    cause,
  })

/** Weight of one observation. */
const timeWeight = 0.05
/** Cap of an observation, ms: more pruning does not make a slow store faster. */
const longestMs = 100

/** Exponentially weighted mean of a duration, ms. */
export class RecentTime {
  #ms = 0

  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#ms += timeWeight * (Math.min(Math.max(0, ms), longestMs) - this.#ms)
  }
}
