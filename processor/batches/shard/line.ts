import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { chatCompletion } from '../../../edge/contract/chat.ts'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { checkImage, type ImageLimits } from '../../../edge/contract/image.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { type BatchLine, type LineFault, parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import { assertGranted, type Tenant } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import { FairBudget, type Reservation } from '../../../infra/fair-budget.ts'
import { FetchPlaces } from '../../../infra/fetch/fetch-places.ts'
import { type ImageAsk, type ImageSource, kindOf } from '../../../infra/fetch/image-source.ts'
import { retry, retryAfterMs } from '../../../infra/retry.ts'
import { largeCharacters, nextTurn } from '../../../infra/timing.ts'
import type { Captioned, Captioner } from '../../pipeline/captioner.ts'
import { duplicateFault } from '../planner/plan.ts'
import { errorLine, outputLine, resultIds } from './result-lines.ts'

export interface LineRunnerOptions {
  captioner: Pick<Captioner, 'caption' | 'concurrency'>
  images: ImageSource
  /** How much of an image is accepted. Default: as the settings' defaults. */
  imageLimits?: ImageLimits
  tenantOf(id: string): Promise<Tenant>
  /** The service's own bucket, which no line may name. */
  ownBucket?: string
  /** Rejects when the service's own store is away. */
  assertStore(): Promise<unknown>
  /** Maximum concurrent fetches of one tenant at one host; see `FetchPlaces`. */
  fetches: number
  /** Maximum bytes of images being fetched or waiting for a device. */
  imageBytes: number
  onFetched?(seconds: number): void
  /** Called with changes of the number of running lines. */
  onInFlight?(change: 1 | -1): void
  /** Waits, for another try and for room in the queue; ends early when the signal aborts. */
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
  /** Stops waiting and fetching: as `signal`, and when the batch expires, with a `BatchExpiredError`. */
  fetching: AbortSignal
  /** Called when the line has a place, before it is fetched; rejects when it is not to be run any more. */
  begin?(): Promise<void>
  /** The lowest of a tenant runs first. */
  priority: number
}

/** The batch expired before the image was there. */
export class BatchExpiredError extends BaseError {}

/** Runs one line of a shard; undefined for an empty line. Rejects when the whole shard is to be retried. */
export type LineRunner = (line: ManifestLine, job: ShardJob, run: LineRun) => Promise<LineOutcome | undefined>

/** Pauses before an image is tried again, ms: S3 recovers, most web servers do so soon or not at all. */
const pausesMs = { web: [500, 2_000], s3: [500, 2_000, 5_000, 10_000], data: [] }
/** Longest such pause where a server asks for one, ms. */
const maxPauseMs = 60_000
/** Characters from which on parsing a line takes noticeable time and memory. */
const largeLine = 16 * 1024
/** Share of the memory for images that one tenant can have. */
const memoryShare = 0.75

/**
 * Creates a runner for the lines of all shards of a process that keeps devices busy, memory bounded, and tenants apart:
 * places to fetch and to caption, and memory, are shared fairly between them.
 */
export function createLineRunner(options: LineRunnerOptions): LineRunner {
  const { captioner, imageBytes, now, onInFlight, assertStore, sleep } = options
  const places = new FetchPlaces(options.fetches)
  const memory = new FairBudget({
    size: imageBytes,
    perOwner: Math.max(Math.floor(memoryShare * imageBytes), maxBodyBytes),
  })
  const captioning = new FairBudget({ size: captioner.concurrency })

  async function caption(ask: BatchLine, job: ShardJob, run: LineRun): Promise<Captioned> {
    const { image, release } = await retry(() => fetchHeld(ask.imageUrl, job, run), {
      tries: 1 + pausesMs[kindOf(ask.imageUrl)].length,
      retriable: (error) => error instanceof ImageError && error.retriable,
      pauseMs: (failures, error) => pauseOf(ask.imageUrl, failures, error),
      signal: run.fetching,
      sleep: sleep && ((ms) => sleep(ms, run.fetching)),
    })
    try {
      return await captionImage(options, ask, job, image, run.signal)
    } finally {
      release()
    }
  }

  /** The place is held until the image is captioned next, so that no more images wait than are fetched at a time. */
  async function fetchHeld(address: string, job: ShardJob, { begin, priority, ...run }: LineRun) {
    const { tenant } = job
    const turn = { priority, signal: run.fetching }
    const place = await places.take({ owner: tenant, address, ...turn })
    const held: Reservation[] = []
    const release = () => {
      for (const each of held.splice(0)) each.release()
      onInFlight?.(-1)
    }
    const room = async (bytes: number) => void held.push(await memory.reserve(tenant, bytes, turn))
    onInFlight?.(1)
    try {
      await begin?.()
      if (now() >= job.expiresAt) throw new BatchExpiredError()
      const image = await fetchImage(options, address, { tenant, room, signal: run.fetching })
      checkImage(image, 'image_url', options.imageLimits)
      held[0]?.shrink(image.length)
      held.push(await captioning.reserve(tenant, 1, { priority, signal: run.signal }))
      return { image, release }
    } catch (error) {
      release()
      // A failing bucket says nothing of the service's own store.
      if (error instanceof ImageError && error.code === 'image_unavailable') await assertStore()
      throw error
    } finally {
      place.release()
    }
  }

  async function runRead(
    read: ReturnType<typeof parseBatchLine>,
    line: ManifestLine,
    job: ShardJob,
    run: LineRun,
  ): Promise<LineOutcome | undefined> {
    if (read === undefined) return undefined
    if ('fault' in read) return faulty(job, line, read.fault)
    const { ask } = read
    const { number } = line
    if (job.duplicates.includes(number)) return faulty(job, line, duplicateFault(ask.customId))
    try {
      return captioned(job, number, ask, await caption(ask, job, run), now())
    } catch (error) {
      if (run.signal.aborted) throw error
      if (error instanceof BatchExpiredError) return expired(job, number, ask.customId)
      return refused(job, number, ask.customId, faultOf(error))
    }
  }

  return async (line, job, run) => {
    const length = line.text?.length ?? 0
    if (length < largeLine) return runRead(parseBatchLine(line, job), line, job, run)
    const { priority, signal } = run
    const held = await memory.reserve(job.tenant, length, { priority, signal })
    try {
      // Lines start together: each of megabytes is parsed in a turn of its own.
      if (length > largeCharacters) await nextTurn()
      const read = parseBatchLine(line, job)
      // Only the image in the line itself is still in memory: another one reserves its own.
      if (read && 'ask' in read && kindOf(read.ask.imageUrl) !== 'data') held.release()
      return await runRead(read, line, job, run)
    } finally {
      held.release()
    }
  }
}

/** Pause before the next try; a longer one that the failure asks for, up to a bound. */
function pauseOf(address: string, failures: number, error: unknown): number {
  const asked = Math.min(retryAfterMs(error) ?? 0, maxPauseMs)
  return Math.max(pausesMs[kindOf(address)][failures - 1] ?? 0, asked)
}
async function fetchImage(
  { images, tenantOf, ownBucket, onFetched, now }: LineRunnerOptions,
  address: string,
  { tenant: owner, ...ask }: { tenant: string } & Pick<ImageAsk, 'room' | 'signal'>,
): Promise<Uint8Array> {
  ask.signal.throwIfAborted()
  const startedAt = now()
  const tenant = await tenantOf(owner)
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, { ownBucket, param: 'image_url' })
  const image = await images(address, { ...ask, owner, granted })
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
  const { tenant: owner, expiresAt: deadline } = job
  const task = { image, lane: 'batch', owner, deadline, maxPrune, prompt, signal } as const
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
