import type { RunningDecoder } from './decoder.ts'
import { FairTurns, type Overtime, type Turn } from './fair-turns.ts'

export interface DecoderGroupOptions {
  /** Maximum decoders. */
  size: number
  /** Idle decoders that are kept beside those at work. Default: 0. */
  spare?: number
  /** Default: none. */
  overtime?: Overtime
  spawn(): RunningDecoder
  /** A decoder that is idle for so long is ended, ms. */
  idleMs: number
}

/** A decoder that kept more memory than this of earlier images is replaced, bytes. */
const maxGrownBytes = 96_000_000

/**
 * Decoders for one kind of images: started when they are needed, ended when they are not, their time shared fairly
 * between owners.
 */
export class DecoderGroup {
  readonly #options: DecoderGroupOptions
  readonly #turns: FairTurns
  /** The one used last is the last. */
  readonly #idle: { decoder: RunningDecoder; since: number }[] = []
  readonly #busy = new Set<RunningDecoder>()
  readonly #ending = new Set<Promise<void>>()
  readonly #sweep: NodeJS.Timeout
  #closed = false

  constructor(options: DecoderGroupOptions) {
    this.#options = options
    this.#turns = new FairTurns({ size: options.size, overtime: options.overtime })
    this.#sweep = setInterval(() => this.#endIdle(), options.idleMs).unref()
  }

  get #spare(): number {
    return this.#options.spare ?? 0
  }

  get busy(): number {
    return this.#busy.size
  }

  get idle(): number {
    return this.#idle.length
  }

  /** Starts decoders ahead of the first image. */
  warm(): void {
    this.#keepIdle(1 + this.#spare)
  }

  /**
   * Runs `work` with a decoder of its own, in the owner's turn; in overtime its decoder gives way to all others.
   * @throws the signal's reason, and what `work` throws
   */
  run<T>(owner: string, work: (decoder: RunningDecoder) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#turns.run(owner, (turn) => this.#run(turn, work), signal)
  }

  /** Ends all decoders; images that are being decoded are lost. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const { decoder } of this.#idle.splice(0)) this.#end(decoder)
    for (const decoder of this.#busy) this.#end(decoder)
    await Promise.all(this.#ending)
  }

  async #run<T>(turn: Turn, work: (decoder: RunningDecoder) => Promise<T>): Promise<T> {
    const decoder = this.#take()
    this.#busy.add(decoder)
    this.#keepIdle(this.#spare)
    let inOvertime = false
    turn.onOvertime = () => {
      inOvertime = true
      decoder.giveWay()
    }
    void decoder.ready.then(() => turn.begin())
    try {
      return await work(decoder)
    } finally {
      this.#busy.delete(decoder)
      if (decoder.usable && decoder.grownBytes < maxGrownBytes && !inOvertime) this.#keep(decoder)
      else this.#end(decoder)
      this.#keepIdle(this.#spare)
    }
  }

  #take(): RunningDecoder {
    for (let last = this.#idle.pop(); last; last = this.#idle.pop()) {
      if (last.decoder.usable) return last.decoder
      this.#end(last.decoder)
    }
    return this.#options.spawn()
  }

  #keep(decoder: RunningDecoder): void {
    this.#idle.push({ decoder, since: performance.now() })
  }

  #keepIdle(count: number): void {
    while (this.#idle.length < count && !this.#closed) this.#keep(this.#options.spawn())
  }

  #endIdle(): void {
    const before = performance.now() - this.#options.idleMs
    while (this.#idle.length > this.#spare && this.#idle[0]!.since <= before)
      this.#end(this.#idle.shift()!.decoder)
  }

  #end(decoder: RunningDecoder): void {
    const ending = decoder.close().finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }
}
