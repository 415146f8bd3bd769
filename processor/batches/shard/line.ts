import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { chatCompletion } from '../../../edge/contract/chat.ts'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { checkImage } from '../../../edge/contract/image.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { type BatchLine, type LineFault, parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import { assertGranted, type Tenant } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import type { ImageSource } from '../../../infra/fetch/image-source.ts'
import { retry, retryAfterMs } from '../../../infra/retry.ts'
import { largeCharacters, nextTurn } from '../../../infra/timing.ts'
import type { Captioned, Captioner } from '../../pipeline/captioner.ts'
import { duplicateFault } from '../planner/plan.ts'
import { ByteBudget } from './byte-budget.ts'
import { priorityLimit } from './priority.ts'
import { errorLine, outputLine, resultIds } from './result-lines.ts'

export interface LineRunnerOptions {
  captioner: Pick<Captioner, 'caption' | 'concurrency'>
  images: ImageSource
  tenantOf(id: string): Promise<Tenant>
  /** Maximum concurrent fetches. */
  fetches: number
  /** Maximum bytes of images being fetched or waiting for a device. */
  imageBytes: number
  onFetched?(seconds: number): void
  /** Waits for room in the queue; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
  /** Unix ms. */
  now(): number
}

/** Result of a line; `text` is its line of the output file, or of the error file. */
export type LineOutcome =
  | { text: string; captioned: Captioned }
  /** `dropped`: it was not started. */
  | { text: string; code: string; dropped: boolean }

/** Options of one run of a line. */
export interface LineRun {
  /** Stops the run. */
  signal: AbortSignal
  /** Stops fetches when the batch expires, with a `BatchExpiredError`. */
  expiry: AbortSignal
  /** The lowest runs first. */
  priority: number
}

/** The batch expired while an image was fetched. */
export class BatchExpiredError extends BaseError {}

/** Runs one line of a shard; undefined for an empty line. Rejects when the whole shard is to be retried. */
export type LineRunner = (line: ManifestLine, job: ShardJob, run: LineRun) => Promise<LineOutcome | undefined>

/** Creates a runner for the lines of all shards of a process that keeps devices busy and memory bounded. */
export function createLineRunner(options: LineRunnerOptions): LineRunner {
  const { captioner, now } = options
  const budget = new ByteBudget(options.imageBytes)
  const fetching = priorityLimit(options.fetches)
  const captioning = priorityLimit(captioner.concurrency)

  async function caption(ask: BatchLine, job: ShardJob, run: LineRun): Promise<Captioned> {
    const { image, release } = await fetching(run.priority, () => fetchHeld(ask.imageUrl, job.tenant, run))
    try {
      checkImage(image, 'image_url')
      return await captioning(run.priority, () => captionImage(options, ask, job, image, run.signal))
    } finally {
      release()
    }
  }

  /** The memory is reserved before the size is known, and held until the image is captioned. */
  async function fetchHeld(url: string, tenant: string, { signal, expiry }: LineRun) {
    const reservation = await budget.reserve(maxBodyBytes)
    try {
      const image = await fetchImage(options, url, tenant, AbortSignal.any([signal, expiry]))
      reservation.shrink(image.length)
      return { image, release: reservation.release }
    } catch (error) {
      reservation.release()
      expiry.throwIfAborted()
      throw error
    }
  }

  return async (line, job, run) => {
    // Lines start together: each of megabytes is parsed in a turn of its own.
    if ((line.text?.length ?? 0) > largeCharacters) await nextTurn()
    const read = parseBatchLine(line, job)
    if (read === undefined) return undefined
    if ('fault' in read) return faulty(job, line, read.fault)
    const { ask } = read
    const { number } = line
    if (job.duplicates.includes(number)) return faulty(job, line, duplicateFault(ask.customId))
    if (now() >= job.expiresAt) return expired(job, number, ask.customId)
    try {
      return captioned(job, number, ask, await caption(ask, job, run), now())
    } catch (error) {
      if (run.signal.aborted) throw error
      if (error instanceof BatchExpiredError) return expired(job, number, ask.customId)
      return refused(job, number, ask.customId, faultOf(error))
    }
  }
}

async function fetchImage(
  { images, tenantOf, onFetched, now }: LineRunnerOptions,
  url: string,
  tenantId: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  signal.throwIfAborted()
  const startedAt = now()
  const tenant = await tenantOf(tenantId)
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, 'image_url')
  const image = await images(url, { granted, signal })
  onFetched?.((now() - startedAt) / 1000)
  return image
}

/** Captions an image. Retries while the queue is full, which is no fault of the line. */
function captionImage(
  { captioner, sleep }: LineRunnerOptions,
  { prompt, maxPrune: mostPruned = 1 }: BatchLine,
  job: ShardJob,
  image: Uint8Array,
  signal: AbortSignal,
): Promise<Captioned> {
  signal.throwIfAborted()
  const maxPrune = Math.min(job.maxPrune, mostPruned)
  const task = { image, lane: 'batch', deadline: job.expiresAt, maxPrune, prompt, signal } as const
  return retry(() => captioner.caption(task), {
    retriable: (error) => error instanceof TurbineError && error.code === 'queue_full',
    pauseMs: (_, error) => retryAfterMs(error) ?? 1000,
    signal,
    sleep,
  })
}

/**
 * Returns an error that belongs to the line.
 * @throws any other error, for which the whole shard is retried
 */
function faultOf(error: unknown): TurbineError {
  if (error instanceof ImageError) return error
  // The devices have retried this image.
  if (error instanceof TurbineError && (!error.retriable || error.code === 'inference_failed')) return error
  throw error
}

function captioned(
  job: ShardJob,
  line: number,
  { customId }: BatchLine,
  result: Captioned,
  now: number,
): LineOutcome {
  const { id, requestId } = resultIds(job.batch, line)
  const answer = {
    created: Math.floor(now / 1000),
    caption: result.caption,
    turbine: { ...result.turbine, ...(job.repay ? { repaid: true as const } : {}) },
  }
  const name = requestId.replace(/^req_/, '')
  const body =
    job.endpoint === '/v1/chat/completions'
      ? chatCompletion({ id: `chatcmpl-${name}`, ...answer })
      : { id: `cap_${name}`, object: 'caption', status: 'completed', ...answer }
  return { text: outputLine({ id, customId, statusCode: 200, requestId, body }), captioned: result }
}

/** Outcome of a line that the service refused. */
function refused(job: ShardJob, line: number, customId: string, error: TurbineError): LineOutcome {
  const { id, requestId } = resultIds(job.batch, line)
  const response = { statusCode: error.status, requestId, body: error.toBody() }
  return { text: errorLine({ id, customId, response }), code: error.code, dropped: false }
}

/** Outcome of a line that cannot be run. */
export function faulty(
  job: ShardJob,
  { number }: Pick<ManifestLine, 'number'>,
  { customId, code, message, param }: Omit<LineFault, 'param'> & Partial<LineFault>,
): LineOutcome {
  const { id } = resultIds(job.batch, number)
  const text = errorLine({ id, customId, error: { code, message, param, line: number } })
  return { text, code, dropped: false }
}

export function expired(job: ShardJob, line: number, customId: string): LineOutcome {
  const error = {
    code: 'batch_expired',
    message: 'The batch expired before this line was run. Submit it again, with a longer completion window.',
    line,
  }
  const { id } = resultIds(job.batch, line)
  return { text: errorLine({ id, customId, error }), code: error.code, dropped: true }
}
