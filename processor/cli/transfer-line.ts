import { formatBytes, formatDuration, formatShare } from './format.ts'
import { eraseLine, type ProgressStream, RateMeter } from './progress.ts'

/** How far a transfer is. */
export interface TransferProgress {
  /** What is on its way. */
  file: string
  bytes: number
  totalBytes: number
}

/** The progress of a transfer: one line that is redrawn on a terminal, and one line per ten percent in a log. */
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
