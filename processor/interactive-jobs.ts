import type { FinishedCaption } from '../edge/contract/caption.ts'
import { TurbineError } from '../edge/contract/errors.ts'
import { type CaptionJob, decodeJob } from '../edge/contract/job.ts'
import { keys } from '../edge/contract/keys.ts'
import { topics } from '../edge/contract/topics.ts'
import { getBytes, getJson, type ObjectStore } from '../infra/store/store.ts'
import type { ConsumedRecord, Stream } from '../infra/stream/stream.ts'
import type { Captioned, Captioner } from './captioner.ts'

export interface InteractiveJobsOptions {
  captioner: Captioner
  store: ObjectStore
  stream: Pick<Stream, 'send'>
  /** Hands the finished caption to whoever waits at the job's `reply-to` address. */
  deliver(replyTo: string, caption: FinishedCaption): void
  /** Told of records that nothing could be made of. */
  onDeadLetter?(cause: unknown): void
  /** Unix ms. */
  now(): number
}

/**
 * Handles records of the interactive topic: captions the image, writes the result, announces it. The result lies in
 * the store before the promise fulfils, so before the record is committed; a record that comes a second time, after a
 * crash, finds its result there and is not captioned again.
 *
 * Rejects, so that the record comes again, only when the processor shuts down or the store is away.
 */
export function interactiveJobs(options: InteractiveJobsOptions) {
  const startedAt = options.now()
  return async (record: ConsumedRecord, signal: AbortSignal): Promise<void> => {
    let job: CaptionJob
    try {
      job = decodeJob(record)
    } catch (cause) {
      return bury(options, record, cause)
    }
    const known = record.timestamp < startedAt ? await finishedCaption(options.store, job) : undefined
    const caption = known ?? (await finish(options, record, job, signal))
    if (job.replyTo) options.deliver(job.replyTo, caption)
    if (!(job.image instanceof Uint8Array)) await options.store.delete(job.image.key)
  }
}

async function finishedCaption(store: ObjectStore, job: CaptionJob): Promise<FinishedCaption | undefined> {
  const stored = await getJson<FinishedCaption | { status: 'queued' }>(
    store,
    keys.caption(job.tenant, job.id),
  )
  return stored && stored.status !== 'queued' ? stored : undefined
}

async function finish(
  options: InteractiveJobsOptions,
  record: ConsumedRecord,
  job: CaptionJob,
  signal: AbortSignal,
): Promise<FinishedCaption> {
  const caption = await captionOf(options, record, job, signal)
  await options.store.put(keys.caption(job.tenant, job.id), JSON.stringify(caption), {
    contentType: 'application/json',
  })
  return caption
}

async function captionOf(
  options: InteractiveJobsOptions,
  record: ConsumedRecord,
  job: CaptionJob,
  signal: AbortSignal,
): Promise<FinishedCaption> {
  const head = { id: job.id, object: 'caption', created: Math.floor(job.acceptedAt / 1000) } as const
  try {
    return { ...head, status: 'completed', ...answer(await runJob(options, job, signal)) }
  } catch (error) {
    if (!(error instanceof TurbineError) || comesAgain(error)) throw error
    // Another run would fail alike: the caller gets the error, and an operator the record.
    if (error.code === 'inference_failed') await bury(options, record, error)
    return { ...head, status: 'failed', http_status: error.status, ...error.toBody() }
  }
}

/** Whether the same record can be captioned later. */
const comesAgain = ({ retriable, code }: TurbineError) => retriable && code !== 'inference_failed'

async function runJob(
  { captioner, store }: InteractiveJobsOptions,
  job: CaptionJob,
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

function answer(captioned: Captioned) {
  return {
    caption: captioned.caption,
    turbine: {
      prune_level: captioned.pruneLevel,
      prune_ratio: captioned.pruneRatio,
      tokens_in: captioned.tokensIn,
      tokens_out: captioned.tokensOut,
      output_tokens: captioned.outputTokens,
      queue_ms: captioned.queueMs,
      inference_ms: captioned.inferenceMs,
      model: captioned.model,
    },
  }
}

/** Keeps a record that cannot be handled, with its origin and its cause. */
async function bury(
  { stream, onDeadLetter }: InteractiveJobsOptions,
  record: ConsumedRecord,
  cause: unknown,
) {
  onDeadLetter?.(cause)
  const { key, value, headers, topic, partition, offset } = record
  const origin = {
    'origin-topic': topic,
    'origin-partition': String(partition),
    'origin-offset': String(offset),
  }
  const message = cause instanceof Error ? cause.message : String(cause)
  await stream.send(topics.deadLetter, [{ key, value, headers: { ...headers, ...origin, cause: message } }])
}
