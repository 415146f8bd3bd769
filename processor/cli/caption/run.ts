import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import type { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { isRetriable, retry, retryAfterMs } from '../../../infra/retry.ts'
import type { Captioned, Captioner, CaptionTask } from '../../pipeline/captioner.ts'
import { UsageError } from '../errors.ts'
import type { Totals } from '../progress.ts'
import { type ErrorLine, entryKey, type OutputLine } from './earlier-run.ts'
import type { JsonlOutput } from './jsonl-output.ts'
import type { Source } from './manifest.ts'
import type { ReadImage } from './read-image.ts'

export interface CaptionRun {
  sources: AsyncIterable<Source>
  captioner: Captioner
  readImage: ReadImage
  output: JsonlOutput<OutputLine>
  errors: JsonlOutput<ErrorLine>
  /** Entries that are skipped; every entry of this run is added. */
  done: FingerprintSet
  /** Kept up to date while the run goes on. */
  tally: Totals
  /** What every image is captioned with, unless its line has a prompt of its own. */
  task?: Pick<CaptionTask, 'level' | 'prompt'>
  /** Images read and captioned at the same time. Default: enough that files are read while the devices work. */
  concurrency?: number
  /** Stops the run: images in hand are finished and written, no other is begun. */
  signal?: AbortSignal
  /** Waits before a repeat; ends early when the signal aborts. */
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>
}

/** The service failed time and again, so that going on would only turn good images into failures. */
export class CaptionerFailedError extends Error {
  override readonly name = 'CaptionerFailedError'
  readonly code = 'captioner_failed'
  readonly retriable = true
}

type Entry = Pick<Source, 'image' | 'customId' | 'prompt'>
/** Neither a caption nor an error: the run was stopped before there was one. */
type Outcome = Entry & { captioned?: Captioned; error?: unknown }

const maxAttempts = 3
/** Failures in a row that are not the images' own fault and end the run. */
const maxFaults = 8

/**
 * Captions every source that is not done yet and writes one line for each, in the order of the sources: a caption
 * to `output` or a failure to `errors`. A bad image never ends the run.
 * @throws UsageError when the options of the run are at fault; CaptionerFailedError when the captioner itself keeps
 * failing.
 */
export async function captionSources(run: CaptionRun): Promise<void> {
  const { captioner, tally, concurrency = 2 * captioner.concurrency, signal } = run
  let faults = 0
  const outcomes = mapInOrder(skipDone(run), (source) => captionSource(source, run), { concurrency, signal })
  for await (const outcome of outcomes) {
    if (outcome.captioned) {
      await run.output.append(outputLine(outcome, outcome.captioned))
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
}

async function* skipDone({ sources, done, tally }: CaptionRun): AsyncGenerator<Source> {
  for await (const source of sources) {
    if (done.add(entryKey(source))) yield source
    else tally.skipped++
  }
}

async function captionSource(source: Source, run: CaptionRun): Promise<Outcome> {
  const { image, customId, prompt, maxPrune, location } = source
  const entry: Entry = { image, customId, prompt }
  try {
    if (location === undefined) throw source.error
    const bytes = await attempt(run, () => run.readImage(location)).catch((error: unknown) => {
      throw isStop(error, run) ? error : asImageError(error)
    })
    const captioned = await attempt(run, () =>
      run.captioner.caption({
        ...run.task,
        prompt: prompt ?? run.task?.prompt,
        maxPrune,
        image: bytes,
        lane: 'batch',
      }),
    ).catch((error: unknown) => {
      throw isTaskFault(error) && !(prompt && codeOf(error) === 'prompt_too_long')
        ? new UsageError(messageOf(error), { cause: error })
        : error
    })
    return { ...entry, captioned }
  } catch (error) {
    if (error instanceof UsageError) throw error
    return isStop(error, run) ? entry : { ...entry, error }
  }
}

/** Whether the run was stopped while a repeat was due. */
const isStop = (error: unknown, { signal }: CaptionRun) => signal?.aborted === true && error === signal.reason

/** Repeats what may go better later; a full queue is waited for as long as it takes. */
function attempt<T>({ signal, sleep }: CaptionRun, work: () => Promise<T>): Promise<T> {
  const isFull = (error: unknown) => error instanceof TurbineError && error.code === 'queue_full'
  return retry(work, {
    retriable: (error, failures) => isRetriable(error) && (failures < maxAttempts || isFull(error)),
    // What the captioner asks for, or 1 s, 2 s, 4 s, ... up to half a minute.
    pauseMs: (failures, error) => retryAfterMs(error) ?? Math.min(30_000, 500 * 2 ** failures),
    signal,
    sleep,
  })
}

/** Whatever keeps an image from being read is that image's own affair. */
function asImageError(error: unknown): unknown {
  if (isImageFault(error)) return error
  return new TurbineError(messageOf(error), { status: 400, code: codeOf(error), cause: error })
}

/** A prompt that is too long, a level that the model has not: it would fail every image. */
const isTaskFault = (error: unknown) =>
  isImageFault(error) && !isRetriable(error) && !(error instanceof ImageError)

const isImageFault = (error: unknown) => error instanceof TurbineError && error.status < 500

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

const codeOf = (error: unknown) =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'internal_error'

const captionerFailed = (cause: unknown) =>
  new CaptionerFailedError(
    `Stopped, since ${maxFaults} images in a row failed, the last one with: ${messageOf(cause)}. What is captioned ` +
      'is safe; to go on, run the same command again with --retry-errors.',
    { cause },
  )

function outputLine({ image, customId, prompt }: Entry, { caption, turbine }: Captioned): OutputLine {
  const { output_tokens, ...pruning } = turbine
  return {
    custom_id: customId,
    image,
    prompt,
    caption,
    turbine: {
      ...pruning,
      prune_ratio: rounded(pruning.prune_ratio, 4),
      queue_ms: rounded(pruning.queue_ms, 1),
      inference_ms: rounded(pruning.inference_ms, 1),
    },
  }
}

const errorLine = ({ image, customId, prompt }: Entry, error: unknown): ErrorLine => ({
  custom_id: customId,
  image,
  prompt,
  error: { code: codeOf(error), message: messageOf(error) },
})

const rounded = (value: number, digits: number) => Number(value.toFixed(digits))
