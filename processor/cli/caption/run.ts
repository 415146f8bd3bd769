import { createHash } from 'node:crypto'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { FairBudget, type Reservation } from '../../../infra/fair-budget.ts'
import { fetchPatiently } from '../../../infra/fetch/patient.ts'
import type { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { isRetriable, retry, retryAfterMs } from '../../../infra/retry.ts'
import { releaseImages } from '../../decoding/loaders/loaded-image.ts'
import { type Answer, ask, type CaptionAsk } from '../../pipeline/ask.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { UsageError } from '../errors.ts'
import type { Totals } from '../progress.ts'
import { type EntryName, entryKey, type FailureLine, type OutputLine } from './earlier-run.ts'
import type { JsonlOutput } from './jsonl-output.ts'
import type { Source } from './manifest.ts'
import type { ReadImage, ReadImageOptions } from './read-image.ts'
import { contentKey, RecentAnswers } from './recent-answers.ts'
import type { Sidecars } from './tables/sidecar.ts'

export interface CaptionRun {
  sources: AsyncIterable<Source>
  captioner: Captioner
  readImage: ReadImage
  output: JsonlOutput<OutputLine>
  /** Captions beside the pictures, written before the output. */
  sidecars?: Sidecars
  errors: JsonlOutput<FailureLine>
  /** Entries to skip; every entry of this run is added. */
  done: FingerprintSet
  /** Updated during the run. */
  tally: Totals
  /** Options of all images; those of a line override them. */
  task?: Pick<CaptionAsk, 'level' | 'request' | 'settings' | 'n' | 'maxTokens' | 'stop' | 'warnings'>
  /** `exact`: images of the same bytes are captioned once, whatever their names. */
  dedupe?: 'exact'
  /** Images that are read or captioned at a time; default: enough to keep the devices busy. */
  concurrency?: number
  /** Stops the run: images in flight are finished and written. */
  signal?: AbortSignal
  /** Pauses before a retry, ms. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>
}

/** Repeated failures of the captioner: continuing would only fail good images. */
export class CaptionerFailedError extends Error {
  override readonly name = 'CaptionerFailedError'
  readonly code = 'captioner_failed'
  readonly retriable = true
}

type Entry = EntryName & Pick<Source, 'columns'>
/** Result of an entry; without caption and error when the run was stopped first. */
type Outcome = Entry & { captioned?: Answer; error?: unknown }

/** Entries that are begun before the first of them is done: so far ahead others go on while a host is slow. */
const entriesAhead = 8192
/** Characters of their addresses, which can hold images. */
const charactersAhead = 64 * 1024 * 1024

const maxAttempts = 3
/** Consecutive failures, other than of images, that end the run. */
const maxFaults = 8

/**
 * Captions every source that is not done and writes one line for each, in order, to `output` or `errors`. A bad image never
 * ends the run.
 * @throws UsageError for invalid options; CaptionerFailedError when the captioner keeps failing
 */
export async function captionSources(run: CaptionRun): Promise<void> {
  const { captioner, tally, concurrency = 2 * captioner.concurrency, signal } = run
  let faults = 0
  const places = new FairBudget({ size: concurrency })
  const answers = new RecentAnswers()
  const caption = async ({ source, held }: Ahead) =>
    captionSource(source, { ...run, places, answers }).finally(() => held.release())
  const window = { concurrency: entriesAhead, window: entriesAhead, signal }
  const outcomes = mapInOrder(skipDone(run), caption, window)
  const output = new LinesAhead(run.output)
  for await (const outcome of outcomes) {
    if (outcome.captioned) {
      await output.append(outputLine(outcome, outcome.captioned))
      tally.captioned++
      tally.pruneRatioSum += outcome.captioned.turbine.prune_ratio
      faults = 0
    } else if (outcome.error !== undefined) {
      await run.errors.append(errorLine(outcome, outcome.error))
      tally.failed++
      if (isImageFault(outcome.error)) continue
      faults++
      if (faults === maxFaults) throw captionerFailed(outcome.error)
    }
  }
  await output.written()
}

/** Lines that may wait to be written. */
const linesAhead = 512

/** Appends lines without waiting for each. */
class LinesAhead {
  readonly #output: JsonlOutput<OutputLine>
  #last: Promise<void> = Promise.resolve()
  #count = 0
  #failure: { error: unknown } | undefined

  constructor(output: JsonlOutput<OutputLine>) {
    this.#output = output
  }

  /** @throws the failure of any line before */
  async append(line: OutputLine): Promise<void> {
    if (this.#failure) throw this.#failure.error
    this.#last = this.#output.append(line)
    this.#last.catch((error: unknown) => {
      this.#failure ??= { error }
    })
    if (++this.#count % linesAhead === 0) await this.#last
  }

  written(): Promise<void> {
    return this.#last
  }
}

/** Entry that is begun, and the memory that it takes. */
interface Ahead {
  source: Source
  held: Reservation
}

async function* skipDone({ sources, done, tally, task, sidecars }: CaptionRun): AsyncGenerator<Ahead> {
  const ahead = new FairBudget({ size: charactersAhead })
  for await (const source of sources) {
    if (!done.add(entryKey(entryOf(source, task))) || (await sidecars?.isThere(source))) tally.skipped++
    // An entry can hold its whole image.
    else yield { source, held: await ahead.reserve('', sizeOf(source)) }
  }
}

/** Of an image that is here already few are begun ahead: no host is waited for. */
const leastWithBytes = charactersAhead / 1024

const sizeOf = ({ location, bytes }: Source) =>
  bytes ? Math.max(bytes.length, leastWithBytes) : (location?.length ?? 0) + 1

/** The place is held until the image is captioned. */
async function captionSource(
  source: Source,
  { places, answers, ...run }: CaptionRun & { places: FairBudget; answers: RecentAnswers },
): Promise<Outcome> {
  const { prompt, row, location, bytes, others = [] } = source
  const entry = entryOf(source, run.task)
  let taken: Reservation | undefined
  let images: Uint8Array[] = []
  const place = async () => {
    taken = await places.reserve('', 1, { signal: run.signal })
    return taken
  }
  try {
    if (location === undefined && bytes === undefined) throw source.error
    const asked = asOf(source, run.task)
    const answer = async () => {
      if (bytes !== undefined) await place()
      images = bytes
        ? [bytes]
        : await readAll(run, [location!, ...others], place).catch((error: unknown) => {
            throw isStop(error, run) ? error : asImageError(error)
          })
      const now = () =>
        attempt(run, () => ask(run.captioner, { ...asked, images, lane: 'batch' })).catch(
          (error: unknown) => {
            throw asTaskFault(error, prompt)
          },
        )
      return run.dedupe ? answers.of(contentKey(images, asked), now) : now()
    }
    const isNamed = location !== undefined && row !== undefined
    const captioned = await (isNamed
      ? answers.of(JSON.stringify([location, others, asked]), answer)
      : answer())
    await run.sidecars?.write(source, captioned.caption)
    return { ...entry, captioned }
  } catch (error) {
    if (error instanceof UsageError) throw error
    return isStop(error, run) ? entry : { ...entry, error }
  } finally {
    releaseImages(images)
    taken?.release()
  }
}

/** What is wrong with what every image is asked ends the run; a line's own prompt only its line. */
const asTaskFault = (error: unknown, prompt?: string) =>
  isTaskFault(error) && !(prompt && codeOf(error) === 'prompt_too_long')
    ? new UsageError(messageOf(error), { cause: error })
    : error

/** An image without an id or a row is told by what it is asked, too: another `--max-tokens` makes another caption. */
function entryOf(source: Source, task: CaptionRun['task']): Entry {
  const { image, customId, prompt, row, columns } = source
  if (customId !== undefined || row !== undefined) return { image, customId, prompt, row, columns }
  const { request, settings, maxTokens, stop, n } = asOf(source, task)
  // Its own prompt is in the line.
  const inLine = prompt === undefined ? 0 : 1
  const isMore = Object.keys(request ?? {}).length > inLine
  const asked = JSON.stringify([isMore ? request : undefined, settings, maxTokens, stop, n])
  const told = asked === nothingAsked ? {} : { asked: digestOf(asked) }
  return { image, prompt, columns, ...told }
}

const nothingAsked = JSON.stringify([undefined, {}, undefined, undefined, undefined])
const digestOf = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12)

/** What an image is captioned with: as its line says, and else as the run does. */
function asOf(source: Source, task: CaptionRun['task'] = {}): Omit<CaptionAsk, 'images' | 'lane'> {
  const { maxPrune, maxTokens = task.maxTokens, stop = task.stop, n = task.n } = source
  const { maxPixels = task.request?.maxPixels, ...own } = source.request ?? {}
  const isAsked = Object.keys(own).length > 0
  return {
    ...{ level: task.level, maxPrune, maxTokens, stop, n },
    request: { ...(isAsked ? own : task.request), ...(maxPixels !== undefined && { maxPixels }) },
    settings: { ...task.settings, ...source.settings },
    warnings: [...(source.warnings ?? []), ...(isAsked ? [] : (task.warnings ?? []))],
  }
}

/** Of the further images of an entry, which are read one after the other in the place of the first. */
const heldPlace = { release() {} }

async function readAll(
  run: CaptionRun,
  [first, ...others]: readonly [string, ...string[]],
  place: ReadImageOptions['place'],
): Promise<Uint8Array[]> {
  const images = [await readPatiently(run, first, place)]
  try {
    for (const other of others) images.push(await readPatiently(run, other, async () => heldPlace))
    return images
  } catch (error) {
    releaseImages(images)
    throw error
  }
}

/** Reads an image again for as long as its host may give it. */
function readPatiently(
  { readImage, signal = new AbortController().signal, sleep }: CaptionRun,
  location: string,
  place: ReadImageOptions['place'],
): Promise<Uint8Array> {
  const read = (failedSince?: number) => readImage(location, { leave: signal, failedSince, place })
  return fetchPatiently(read, { signal, sleep })
}

/** Tests for an error of the stop signal. */
const isStop = (error: unknown, { signal }: CaptionRun) => signal?.aborted === true && error === signal.reason

/** Retries transient errors; a full queue is retried without limit. */
function attempt<T>({ signal, sleep }: CaptionRun, work: () => Promise<T>): Promise<T> {
  const isFull = (error: unknown) => error instanceof TurbineError && error.code === 'queue_full'
  return retry(work, {
    retriable: (error, failures) => isRetriable(error) && (failures < maxAttempts || isFull(error)),
    // The captioner's retry-after, or 1 s, 2 s, 4 s, ... up to 30 s.
    pauseMs: (failures, error) => retryAfterMs(error) ?? Math.min(30_000, 500 * 2 ** failures),
    signal,
    sleep,
  })
}

/** Marks an error of reading an image as that image's fault. */
function asImageError(error: unknown): unknown {
  if (isImageFault(error)) return error
  return new TurbineError(messageOf(error), { status: 400, code: codeOf(error), cause: error })
}

/** Tests for an error that would fail every image: a prompt that is too long, an unknown level. */
const isTaskFault = (error: unknown) =>
  isImageFault(error) && !isRetriable(error) && !(error instanceof ImageError)

const isImageFault = (error: unknown) =>
  error instanceof ImageError || (error instanceof TurbineError && error.status < 500)

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

const codeOf = (error: unknown) =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'internal_error'

const captionerFailed = (cause: unknown) =>
  new CaptionerFailedError(
    `Stopped after ${maxFaults} consecutive failures. Last error: ${messageOf(cause)}. Captions so far are ` +
      'saved; run the same command with --retry-errors, and without --overwrite, to resume.',
    { cause },
  )

function outputLine(
  { image, customId, prompt, row, asked, columns }: Entry,
  { caption, finish_reason, captions, turbine }: Answer,
): OutputLine {
  const { output_tokens, ...pruning } = turbine
  return {
    custom_id: customId,
    image,
    row,
    prompt,
    asked,
    columns,
    caption,
    finish_reason,
    captions,
    turbine: {
      ...pruning,
      prune_ratio: rounded(pruning.prune_ratio, 4),
      queue_ms: rounded(pruning.queue_ms, 1),
      inference_ms: rounded(pruning.inference_ms, 1),
    },
  }
}

const errorLine = ({ image, customId, prompt, row, asked }: Entry, error: unknown): FailureLine => ({
  custom_id: customId,
  image,
  row,
  prompt,
  asked,
  error: { code: codeOf(error), message: messageOf(error) },
})

const rounded = (value: number, digits: number) => Number(value.toFixed(digits))
