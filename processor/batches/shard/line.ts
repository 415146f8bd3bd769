import { imagesTooLarge } from '../../../edge/contract/ask.ts'
import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { chatCompletion, chatParam, chatStatus, withIgnored } from '../../../edge/contract/chat.ts'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import type { ImageLimits } from '../../../edge/contract/image.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { type BatchLine, type LineFault, parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import { assertGranted, type Tenant } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import { FairBudget, type Reservation } from '../../../infra/fair-budget.ts'
import { FetchPlaces } from '../../../infra/fetch/fetch-places.ts'
import { type ImageAsk, type ImageSource, kindOf } from '../../../infra/fetch/image-source.ts'
import { fetchPatiently } from '../../../infra/fetch/patient.ts'
import type { FetchPlace } from '../../../infra/fetch/web.ts'
import { retry, retryAfterMs } from '../../../infra/retry.ts'
import { largeCharacters, nextTurn } from '../../../infra/timing.ts'
import { checkedWork, releaseImages } from '../../decoding/loaders/loaded-image.ts'
import { type Answer, ask as askCaptioner } from '../../pipeline/ask.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { duplicateFault } from '../planner/plan.ts'
import { errorLine, outputLine, resultIds } from './result-lines.ts'

export interface LineRunnerOptions {
  captioner: Pick<Captioner, 'caption' | 'concurrency' | 'byDefault'>
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
  | { text: string; captioned: Answer }
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
  /** Called when the line begins to wait for a slow host, holding nothing, and when it waits no more. */
  onWaiting?(change: 1 | -1): void
  /** The lowest of a tenant runs first. */
  priority: number
}

/** The batch expired before the image was there. */
export class BatchExpiredError extends BaseError {}

/** Runs one line of a shard; undefined for an empty line. Rejects when the whole shard is to be retried. */
export type LineRunner = (line: ManifestLine, job: ShardJob, run: LineRun) => Promise<LineOutcome | undefined>

/** Characters from which on parsing a line takes noticeable time and memory. */
const largeLine = 16 * 1024
/** Share of the memory for images that one tenant can have. */
const memoryShare = 0.75

/** Share of the memory that is for lines with several images, which hold theirs while they wait for hosts. */
const severalShare = 0.25

/**
 * Creates a runner for the lines of all shards of a process that keeps devices busy, memory bounded, and tenants apart:
 * places to fetch and to caption, and memory, are shared fairly between them.
 */
export function createLineRunner(options: LineRunnerOptions): LineRunner {
  const { captioner, imageBytes, now, onInFlight, onFetched, assertStore, sleep } = options
  const places = new FetchPlaces(options.fetches)
  const severalLines = Math.floor((severalShare * imageBytes) / maxBodyBytes)
  const severals = new FairBudget({ size: Math.max(1, severalLines) })
  const memoryBytes = imageBytes - severalLines * maxBodyBytes
  const memory = new FairBudget({
    size: memoryBytes,
    perOwner: Math.max(Math.floor(memoryShare * memoryBytes), maxBodyBytes),
  })
  const captioning = new FairBudget({ size: captioner.concurrency })

  /** @param trouble is told what the image's host has failed with */
  async function caption(ask: BatchLine, job: ShardJob, run: LineRun, trouble: Trouble): Promise<Answer> {
    const waiting = waitingOnce(run)
    const onWait = (fault: ImageError | undefined) => {
      trouble.ofHost = fault
      waiting.begin()
    }
    const fetch = (failedSince?: number) =>
      fetchHeld(ask.imageUrls, job, run, { failedSince, onWait, onPlace: waiting.end }).finally(waiting.end)
    const { images, release } = await fetchPatiently(fetch, {
      signal: run.fetching,
      onFault: (fault) => {
        trouble.own = fault
        // The pause before the next try is a wait too.
        waiting.begin()
      },
      sleep: sleep && ((ms) => sleep(ms, run.fetching)),
      now,
    }).finally(waiting.end)
    try {
      return await captionImage(options, ask, job, images, run.signal)
    } finally {
      release()
    }
  }

  /** The place is held until the image is captioned next, so that no more images wait than are fetched at a time. */
  async function fetchHeld(
    addresses: BatchLine['imageUrls'],
    job: ShardJob,
    { begin, priority, ...run }: LineRun,
    { onPlace, ...waits }: Pick<ImageAsk, 'failedSince' | 'onWait'> & { onPlace(): void },
  ) {
    const { tenant } = job
    const turn = { priority, signal: run.fetching }
    const held: Reservation[] = []
    const images: Uint8Array[] = []
    let taken: { place: FetchPlace; at: number } | undefined
    const release = () => {
      releaseImages(images.splice(0))
      for (const each of held.splice(0)) each.release()
      if (taken) onInFlight?.(-1)
    }
    let ofImage: Reservation | undefined
    const room = async (bytes: number) => {
      ofImage?.release()
      ofImage = await memory.reserve(tenant, bytes, turn)
      held.push(ofImage)
    }
    const placeFor = async (take: () => Promise<FetchPlace>) => {
      const place = await take()
      onPlace()
      if (!taken) onInFlight?.(1)
      taken = { place, at: now() }
      await begin?.()
      if (now() >= job.expiresAt) throw new BatchExpiredError()
      return place
    }
    const fetchOne = async ([address]: BatchLine['imageUrls']) => {
      const place = () => placeFor(() => places.take({ owner: tenant, address, ...turn }))
      images.push(await fetchImage(options, address, { tenant, room, place, ...turn, ...waits }))
    }
    /** A place with the memory for all images: no line waits for the memory of another one while it holds some. */
    const fetchSeveral = async () => {
      await placeFor(async () => {
        const own = await severals.reserve(tenant, 1, turn)
        held.push(own)
        return { release() {} }
      })
      for (const address of addresses) {
        const ask = { tenant, room: async () => {}, place: async () => ({ release() {} }), ...turn, ...waits }
        images.push(await fetchImage(options, address, ask))
        if (bytesOf(images) > maxBodyBytes) throw imagesTooLarge()
      }
    }
    try {
      await (addresses.length === 1 ? fetchOne(addresses) : fetchSeveral())
      if (taken) onFetched?.((now() - taken.at) / 1000)
      for (const image of images) checkedWork(image, 'image_url', options.imageLimits)
      ofImage?.shrink(bytesOf(images))
      held.push(await captioning.reserve(tenant, 1, { priority, signal: run.signal }))
      return { images: [...images], release }
    } catch (error) {
      release()
      // A failing bucket says nothing of the service's own store.
      if (error instanceof ImageError && error.code === 'image_unavailable') await assertStore()
      throw error
    } finally {
      taken?.place.release()
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
    const trouble: Trouble = {}
    try {
      return captioned(job, number, ask, await caption(ask, job, run, trouble), now())
    } catch (error) {
      if (run.signal.aborted) throw error
      if (error instanceof BatchExpiredError) return outOfTime(job, number, ask.customId, trouble)
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
      if (read && 'ask' in read && read.ask.imageUrls.every((url) => kindOf(url) !== 'data')) held.release()
      return await runRead(read, line, job, run)
    } finally {
      held.release()
    }
  }
}

const bytesOf = (images: readonly Uint8Array[]) => images.reduce((sum, { length }) => sum + length, 0)

/** Tells once that a line waits, and once that it does not. */
function waitingOnce({ onWaiting }: LineRun) {
  let waits = false
  const set = (now: boolean) => {
    if (now === waits) return
    waits = now
    onWaiting?.(now ? 1 : -1)
  }
  return { begin: () => set(true), end: () => set(false) }
}

async function fetchImage(
  { images, tenantOf, ownBucket }: LineRunnerOptions,
  address: string,
  { tenant: owner, ...ask }: { tenant: string } & Omit<ImageAsk, 'owner' | 'granted'>,
): Promise<Uint8Array> {
  ask.signal.throwIfAborted()
  const tenant = await tenantOf(owner)
  const granted = (uri: string) => assertGranted(tenant, 'read', uri, { ownBucket, param: 'image_url' })
  return images(address, { ...ask, owner, granted })
}

/** Captions an image. Retries while the queue is full, which is no fault of the line. */
function captionImage(
  { captioner, sleep }: LineRunnerOptions,
  { maxTokens, stop, request, settings, n, warnings, maxPrune: mostPruned = 1 }: BatchLine,
  job: ShardJob,
  images: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<Answer> {
  signal.throwIfAborted()
  const maxPrune = Math.min(job.maxPrune, mostPruned)
  const { tenant: owner, expiresAt: deadline } = job
  const text = { maxTokens, stop, request, settings, n, warnings }
  const task = { images, lane: 'batch', owner, deadline, maxPrune, ...text, signal } as const
  return retry(() => askCaptioner(captioner, task), {
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
  { customId, model, ignored }: BatchLine,
  result: Answer,
  now: number,
): LineOutcome {
  const { id, requestId } = resultIds(job.batch, line)
  const answer = {
    created: Math.floor(now / 1000),
    caption: result.caption,
    finish_reason: result.finish_reason,
    ...(result.captions && { captions: result.captions }),
    turbine: { ...result.turbine, ...(job.repay ? { repaid: true as const } : {}) },
  }
  const name = requestId.replace(/^req_/, '')
  const body =
    job.endpoint === '/v1/chat/completions'
      ? chatCompletion({ id: `chatcmpl-${name}`, ...answer }, { model, ignored })
      : {
          ...{ id: `cap_${name}`, object: 'caption', status: 'completed', ...answer },
          turbine: withIgnored(answer.turbine, ignored),
        }
  return { text: outputLine({ id, customId, statusCode: 200, requestId, body }), captioned: result }
}

/** Outcome of a line that the service refused. */
function refused(job: ShardJob, line: number, customId: string, error: TurbineError): LineOutcome {
  const { id, requestId } = resultIds(job.batch, line)
  const isChat = job.endpoint === '/v1/chat/completions'
  const statusCode = isChat ? chatStatus(error.status, error.code) : error.status
  const body = error.toBody()
  if (isChat) body.error.param = chatParam(error.param) ?? null
  const response = { statusCode, requestId, body }
  return { text: errorLine({ id, customId, response }), code: error.code, dropped: false }
}

/** What a line met while it was tried, and while it waited for a host. */
interface Trouble {
  own?: ImageError
  ofHost?: ImageError
}

/** Outcome of a line whose image did not come before the batch expired: it says what its host had answered. */
function outOfTime(job: ShardJob, line: number, customId: string, { own, ofHost }: Trouble): LineOutcome {
  if (!own) return expired(job, line, customId, ofHost)
  const message = `The batch expired before the image came: ${own.message}`
  const { code, status, param, type } = own
  const error = new TurbineError(message, { code, status, type, param: param ?? undefined })
  return refused(job, line, customId, error)
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

/** @param cause why it had to wait for the host of its image */
export function expired(job: ShardJob, line: number, customId: string, cause?: ImageError): LineOutcome {
  const why = cause ? ` It waited for the host of its image: ${cause.message}` : ''
  const error = {
    code: 'batch_expired',
    message: `The batch expired before this line was run. Submit it again, with a longer completion window.${why}`,
    line,
  }
  const { id } = resultIds(job.batch, line)
  return { text: errorLine({ id, customId, error }), code: error.code, dropped: true }
}
