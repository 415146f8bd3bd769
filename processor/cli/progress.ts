import { formatBytes, formatCount, formatDuration, formatRate, formatShare } from './format.ts'

/** Counts of a run so far. */
export interface Totals {
  /** Images of all inputs, once counted. */
  total?: number
  captioned: number
  failed: number
  /** Images that were already done. */
  skipped: number
  /** Sum over the captioned images. */
  pruneRatioSum: number
}

export const newTotals = (): Totals => ({ captioned: 0, failed: 0, skipped: 0, pruneRatioSum: 0 })

/** Destination of progress: a terminal's line is redrawn, a log gets a line every ten seconds. */
export interface ProgressStream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

/** Output streams of a command. */
export interface Terminal {
  /** Results: ids, tables, JSON. */
  stdout: { write(text: string): unknown }
  /** Progress and notes. */
  stderr: ProgressStream
}

export interface ProgressOptions {
  stream: ProgressStream
  tally: Totals
  /** Milliseconds from any fixed point. */
  now?: () => number
}

export interface Progress {
  /** Images per second over the last 30 s; undefined at first. */
  rate(): number | undefined
  /** Prints the progress; called by a timer, and by tests. */
  tick(): void
  /** Prints a line above the progress line. */
  note(text: string): void
  /** Stops the timer and erases the progress line. */
  close(): void
}

/** Erases the current line. */
export const eraseLine = '\r\x1b[K'

/** Prints a line in place of a progress line, which is redrawn below it. */
export function printNote(stream: ProgressStream, text: string): void {
  stream.write(stream.isTTY === true ? `${eraseLine}${text}\n` : `${text}\n`)
}

export function showProgress({ stream, tally, now = () => performance.now() }: ProgressOptions): Progress {
  const terminal = stream.isTTY === true
  const meter = new RateMeter()
  // Earlier work does not count towards the rate.
  meter.sample(now(), tally.captioned + tally.failed)
  const tick = () => {
    meter.sample(now(), tally.captioned + tally.failed)
    const line = { tally, rate: meter.rate() }
    stream.write(
      terminal ? `${eraseLine}${progressBar(line, stream.columns || 80)}` : `${progressText(line)}\n`,
    )
  }
  const timer = setInterval(tick, terminal ? 100 : 10_000)
  timer.unref()
  return {
    rate: () => meter.rate(),
    tick,
    note: (text) => printNote(stream, text),
    close: () => {
      clearInterval(timer)
      if (terminal) stream.write(eraseLine)
    },
  }
}

/** Rate over a sliding window, so that the time left follows the speed. */
export class RateMeter {
  readonly #windowMs: number
  readonly #samples: { at: number; count: number }[] = []

  constructor(windowMs = 30_000) {
    this.#windowMs = windowMs
  }

  sample(at: number, count: number): void {
    this.#samples.push({ at, count })
    while (this.#samples.length > 2 && this.#samples[1]!.at <= at - this.#windowMs) this.#samples.shift()
  }

  rate(): number | undefined {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || last.at <= first.at || last.count === first.count) return undefined
    return ((last.count - first.count) * 1000) / (last.at - first.at)
  }
}

interface ProgressLine {
  tally: Totals
  /** Images per second. */
  rate?: number
}

/** For a terminal, below `columns` wide: `███░░░  412/1,000  41 %  52.3/s  11 s left  2 failed  23 % merged` */
export function progressBar({ tally, rate }: ProgressLine, columns: number): string {
  const share = shareDone(tally)
  const parts = [formatCount(finishedImages(tally))]
  if (share !== undefined) parts[0] += `/${formatCount(tally.total!)}  ${formatShare(share)}`
  if (rate !== undefined) parts.push(`${formatRate(rate)}/s`)
  parts.push(...timeLeft(tally, rate), ...failures(tally))
  if (tally.pruneRatioSum > 0) parts.push(`${meanPruning(tally)} merged`)
  const text = parts.join('  ')
  const width = Math.min(30, columns - text.length - 3)
  if (share === undefined || width < 5) return text.slice(0, columns - 1)
  const filled = Math.round(share * width)
  return `${'█'.repeat(filled)}${'░'.repeat(width - filled)}  ${text}`
}

/** For a log: `412 of 1,000 images (41 %), 52.3 images/s, 11 s left, 2 failed, 23 % of tokens merged` */
export function progressText({ tally, rate }: ProgressLine): string {
  const share = shareDone(tally)
  const finished = formatCount(finishedImages(tally))
  const parts = [
    share === undefined
      ? `${finished} images`
      : `${finished} of ${formatCount(tally.total!)} images (${formatShare(share)})`,
  ]
  if (rate !== undefined) parts.push(`${formatRate(rate)} images/s`)
  parts.push(...timeLeft(tally, rate), ...failures(tally))
  if (tally.pruneRatioSum > 0) parts.push(`${meanPruning(tally)} of tokens merged`)
  return parts.join(', ')
}

function timeLeft(tally: Totals, rate: number | undefined): string[] {
  const left = (tally.total ?? 0) - finishedImages(tally)
  return rate === undefined || left <= 0 ? [] : [`${formatDuration((left / rate) * 1000)} left`]
}

const failures = ({ failed }: Totals) => (failed > 0 ? [`${formatCount(failed)} failed`] : [])

/** Over the captioned images. */
export const meanPruning = (tally: Totals) => formatShare(tally.pruneRatioSum / tally.captioned)

export const finishedImages = (tally: Totals) => tally.captioned + tally.failed + tally.skipped

function shareDone(tally: Totals): number | undefined {
  return tally.total ? Math.min(1, finishedImages(tally) / tally.total) : undefined
}

/** Progress of a transfer. */
export interface TransferProgress {
  file: string
  bytes: number
  totalBytes: number
}

/** Progress line of a transfer: redrawn on a terminal, one line per 10 % in a log. */
export class TransferLine {
  readonly #stream: ProgressStream
  readonly #meter = new RateMeter()
  #step = -1

  constructor(stream: ProgressStream) {
    this.#stream = stream
  }

  show({ file, bytes, totalBytes }: TransferProgress): void {
    const now = performance.now()
    const step = Math.floor(this.#stream.isTTY ? now / 100 : (bytes / totalBytes) * 10)
    if (step === this.#step) return
    this.#step = step
    this.#meter.sample(now, bytes)
    const rate = this.#meter.rate()
    const parts = [`${formatBytes(bytes)} of ${formatBytes(totalBytes)} (${formatShare(bytes / totalBytes)})`]
    if (rate !== undefined && bytes < totalBytes)
      parts.push(`${formatBytes(rate)}/s`, `${formatDuration(((totalBytes - bytes) / rate) * 1000)} left`)
    const text = `${file}: ${parts.join(', ')}`
    this.#stream.write(this.#stream.isTTY ? `${eraseLine}${text}` : `${text}\n`)
  }

  clear(): void {
    if (this.#stream.isTTY) this.#stream.write(eraseLine)
  }
}
