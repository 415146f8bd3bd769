import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setPriority } from 'node:os'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { ImageError } from '../../edge/contract/errors.ts'
import { maxImageSide } from '../../edge/contract/image.ts'
import { BaseError } from '../../infra/errors.ts'
import { compileCacheFolder } from '../../infra/user-cache.ts'
import type { PixelTarget, Preprocessed, PreprocessOptions } from '../engine/preprocess.ts'
import { type PictureRule, type PictureShape, pictureBytes, shapeOf } from '../models/pictures.ts'
import { cpuTimeOf } from './cpu-time.ts'
import { decodeReply, encodeRequest, type ReplyHead, type ReplyKind, replyHeadBytes } from './protocol.ts'

/**
 * Why a decoder was lost: its image took too much `memory` or `time`, it died of a `crash`, it was killed for a more
 * urgent image (`preempted`), or it did not even start, or was given no time by the system (`unavailable`).
 */
export type LossReason = 'memory' | 'time' | 'crash' | 'preempted' | 'unavailable'

/** The decoder is gone, and did not decode its image. */
export class DecoderLostError extends BaseError {
  readonly reason: LossReason

  constructor(reason: LossReason, cause?: unknown) {
    super(`The decoder was lost: ${reason}.`, { cause })
    this.reason = reason
  }
}

export interface DecodeLimits {
  /** Memory beside that of the idle decoder, bytes. */
  memoryBytes: number
  /** CPU time, ms. */
  cpuMs: number
  /** Time from when the decoder has started, ms. */
  wallMs: number
}

/** An image for a decoder. */
export interface DecodeJob {
  image: Uint8Array
  /** What it becomes. */
  rule: PictureRule
  target: PixelTarget
}

/** A decoded image. */
export interface Decoded extends Preprocessed {
  /** CPU time that it took, ms. */
  cpuMs: number
}

/** What a decoder is started with. */
export interface DecoderSettings {
  preprocess?: PreprocessOptions
}

export interface DecoderOptions extends DecoderSettings {
  /** Priority of its process, as of `nice`. Default: that of this process. */
  niceness?: number
}

const program = fileURLToPath(new URL('./decoder-process.ts', import.meta.url))
/** Small heap: images are outside of it. */
const flags = ['--max-semi-space-size=1', '--max-old-space-size=64', '--disable-warning=ExperimentalWarning']
/** Nothing of the service's environment: a decoder needs no secrets. Large blocks go back to the system when freed. */
const environment = {
  /** Compiled code of earlier ones: a decoder starts in a third of the CPU time. */
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? compileCacheFolder(),
  PATH: process.env.PATH,
  LD_LIBRARY_PATH: process.env.LD_LIBRARY_PATH,
  UV_THREADPOOL_SIZE: '1',
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: String(4 * 1024 ** 2),
  MALLOC_TRIM_THRESHOLD_: String(16 * 1024 ** 2),
}
/** Time for a decoder to start, ms: far more than it takes where other work has the cores. */
const startMs = 60_000
/** Of decoders that give way to all others. */
export const heavyNiceness = 10
/** A decoder that is late with less CPU time than this share of the time that has passed was not given more. */
const leastShare = 1 / 12
/** Characters of a decoder's error output that are kept. */
const keptOutput = 1000

interface Pending {
  target: PixelTarget
  rule: PictureRule
  wallMs: number
  resolve(decoded: Decoded): void
  reject(error: Error): void
}

/** What a pool needs of a decoder. */
export type RunningDecoder = Pick<
  Decoder,
  'ready' | 'decode' | 'giveWay' | 'kill' | 'close' | 'usable' | 'grownBytes'
>

/** Process that decodes one image at a time and can be killed. It ends with this process, however that ends. */
export class Decoder {
  /** JSON of the rule of the last image. */
  #rule = ''
  readonly #child: ChildProcessWithoutNullStreams
  readonly #ended: Promise<unknown>
  readonly #head = Buffer.alloc(replyHeadBytes)
  #headBytes = 0
  #reply: ReplyHead | undefined
  #body: Uint8Array = new Uint8Array(0)
  #bodyBytes = 0
  #pending: Pending | undefined
  readonly #started = Promise.withResolvers<void>()
  #ready = false
  #limit: NodeJS.Timeout | undefined
  #loss: LossReason = 'unavailable'
  #lost: DecoderLostError | undefined
  #output = ''
  #idleBytes = 0
  #grownBytes = 0

  constructor({ preprocess, niceness }: DecoderOptions = {}) {
    const settings: DecoderSettings = { preprocess }
    this.#child = spawn(process.execPath, [...flags, program, JSON.stringify(settings)], {
      env: environment,
      stdio: 'pipe',
    })
    const { stdin, stdout, stderr } = this.#child
    this.#ended = once(this.#child, 'close').catch(() => undefined)
    this.#child.on('error', (cause) => this.#onEnd(cause))
    this.#child.on('close', (code, signal) => this.#onEnd(`${signal ?? code} ${this.#output}`.trim()))
    stdin.on('error', () => {})
    stdout.on('data', (chunk: Buffer) => this.#onData(chunk))
    stderr.on('data', (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString()).slice(-keptOutput)
    })
    if (niceness !== undefined) this.#setPriority(niceness)
  }

  /** Resolves when it has started; never, if it does not. */
  get ready(): Promise<void> {
    return this.#started.promise
  }

  /** Resolves when its process has ended. */
  get ended(): Promise<unknown> {
    return this.#ended
  }

  /** Lets all other processes go first, for good: a priority can only be lowered. */
  giveWay(): void {
    this.#setPriority(heavyNiceness)
  }

  /** Whether it can decode another image. */
  get usable(): boolean {
    return this.#lost === undefined && this.#pending === undefined
  }

  /** Memory that it kept of earlier images, bytes. */
  get grownBytes(): number {
    return this.#grownBytes
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /**
   * Decodes an image into its target, which is unchanged if it fails.
   * @throws ImageError; DecoderLostError when it had to be killed or died
   */
  async decode(
    { image, rule, target }: DecodeJob,
    { memoryBytes, cpuMs, wallMs }: DecodeLimits,
  ): Promise<Decoded> {
    if (this.#lost) throw this.#lost
    const decoded = Promise.withResolvers<Decoded>()
    this.#pending = { ...decoded, target, rule, wallMs }
    const text = JSON.stringify(rule)
    const known = text === this.#rule
    this.#rule = text
    const ruleBytes = known ? 0 : Buffer.byteLength(text)
    const { stdin } = this.#child
    stdin.cork()
    stdin.write(encodeRequest({ imageBytes: image.length, memoryBytes, cpuMs, ruleBytes }))
    if (!known) stdin.write(text)
    stdin.write(image)
    stdin.uncork()
    if (this.#ready) this.#killWhenLate(wallMs)
    else this.#killAfter(startMs, 'unavailable')
    try {
      return await decoded.promise
    } finally {
      clearTimeout(this.#limit)
      this.#pending = undefined
    }
  }

  /** Ends it at once, with its image. */
  kill(reason: LossReason): void {
    this.#loss = reason
    this.#child.kill('SIGKILL')
  }

  #killAfter(ms: number, reason: LossReason): void {
    clearTimeout(this.#limit)
    this.#limit = setTimeout(() => this.kill(reason), ms)
  }

  /** An image is not at fault for a machine that is frozen, or has too much else to do: it gets more time then. */
  #killWhenLate(wallMs: number): void {
    const usedMs = () => cpuTimeOf(this.pid ?? 0) ?? Number.POSITIVE_INFINITY
    const before = usedMs()
    const last = performance.now() + startMs
    const wait = () => {
      clearTimeout(this.#limit)
      this.#limit = setTimeout(() => {
        const starved = usedMs() - before < wallMs * leastShare
        if (!starved) this.kill('time')
        else if (performance.now() > last) this.kill('unavailable')
        else wait()
      }, wallMs)
    }
    wait()
  }

  /** Ends it. An image that it still decodes is lost. */
  async close(): Promise<void> {
    this.#child.stdin.end()
    if (this.#pending) this.kill('crash')
    await this.#ended
  }

  /** Pixels go straight into the target. */
  #onData(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#reply === undefined) {
        const count = chunk.copy(this.#head, this.#headBytes, at)
        this.#headBytes += count
        at += count
        if (this.#headBytes === replyHeadBytes && !this.#begin()) return
      } else {
        const part = chunk.subarray(at, at + this.#reply.bodyBytes - this.#bodyBytes)
        this.#body.set(part, this.#bodyBytes)
        this.#bodyBytes += part.length
        at += part.length
      }
      if (this.#reply && this.#bodyBytes === this.#reply.bodyBytes) this.#complete(this.#reply)
    }
  }

  /** @returns false for what is no reply to what was asked: whatever took over the process is ended */
  #begin(): boolean {
    this.#headBytes = 0
    this.#bodyBytes = 0
    const reply = decodeReply(this.#head)
    const body = reply && bodyOf(reply, this.#pending)
    if (!body) {
      this.kill('crash')
      return false
    }
    this.#reply = reply
    this.#body = body
    return true
  }

  #complete({ kind, rssBytes, width, height, cpuMicros }: ReplyHead): void {
    this.#reply = undefined
    if (kind === 'memory' || kind === 'time') {
      this.#loss = kind
      return
    }
    if (kind === 'ready') {
      this.#ready = true
      this.#started.resolve()
      this.#loss = 'crash'
      if (this.#pending) this.#killWhenLate(this.#pending.wallMs)
      this.#idleBytes = rssBytes
      return
    }
    this.#grownBytes = rssBytes - this.#idleBytes
    if (kind === 'refused') this.#pending?.reject(imageError(this.#body))
    else if (this.#pending) {
      const shape = shapeOf(this.#pending.rule, width, height)
      const warnings: Decoded['warnings'] = kind === 'truncated' ? ['truncated'] : []
      this.#pending.resolve({ warnings, width, height, shape, cpuMs: cpuMicros / 1000 })
    }
  }

  #setPriority(niceness: number): void {
    try {
      if (this.pid !== undefined) setPriority(this.pid, niceness)
    } catch {
      // It has just ended, or the system has no priorities.
    }
  }

  #onEnd(cause: unknown): void {
    this.#lost ??= new DecoderLostError(this.#loss, cause)
    this.#pending?.reject(this.#lost)
  }
}

/** Maximum bytes of an error. */
const maxErrorBytes = 65_536

/** Where the body of a reply goes; undefined for what is no reply to what was asked. */
function bodyOf({ kind, bodyBytes, width, height }: ReplyHead, pending: Pending | undefined) {
  if (kind === 'pixels' || kind === 'truncated') {
    const shape = pending && shapeIn(pending.rule, width, height)
    if (!shape || bodyBytes !== pictureBytes(pending.rule, shape)) return undefined
    const target = typeof pending.target === 'function' ? pending.target(shape) : pending.target
    return target.length === bodyBytes ? target : undefined
  }
  const expected: Record<Exclude<ReplyKind, 'pixels' | 'truncated'>, boolean> = {
    ready: bodyBytes === 0,
    refused: pending !== undefined && bodyBytes <= maxErrorBytes,
    memory: bodyBytes === 0,
    time: bodyBytes === 0,
  }
  return expected[kind] ? new Uint8Array(bodyBytes) : undefined
}

/** Undefined for a size that no picture has. */
function shapeIn(rule: PictureRule, width: number, height: number): PictureShape | undefined {
  if (width < 1 || height < 1 || Math.max(width, height) > maxImageSide) return undefined
  try {
    return shapeOf(rule, width, height)
  } catch {
    return undefined
  }
}

function imageError(body: Uint8Array): Error {
  const { code, status, message, param, cause } = JSON.parse(new TextDecoder().decode(body))
  return code ? new ImageError(code, message, { status, param, cause }) : new Error(message)
}
