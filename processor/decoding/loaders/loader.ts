import { Worker } from 'node:worker_threads'
import { BaseError } from '../../../infra/errors.ts'
import type { ReadTask, WebAnswer } from '../../../infra/fetch/image-reader.ts'
import { backoffMs } from '../../../infra/retry.ts'
import { sleep, valueWithin } from '../../../infra/timing.ts'
import { type PictureRule, type PictureShape, pictureBytes, shapeOf } from '../../models/pictures.ts'
import {
  type Decoded,
  type DecodeJob,
  type DecodeLimits,
  DecoderLostError,
  type DecoderOptions,
  type LossReason,
  type RunningDecoder,
} from '../decoder.ts'
import { groupedPost, type Handlers, handle, type Post } from './grouped-port.ts'
import { LoadedImage, sizeOf } from './loaded-image.ts'
import type { FromLoader, ImagePlace, LoaderSettings, ToLoader } from './messages.ts'
import { fromWire } from './wire-error.ts'

/** The thread died while it did this; another one can. */
export class LoaderLostError extends BaseError {
  override readonly retriable = true
}

export interface LoaderOptions {
  name: string
  settings: LoaderSettings
  /** Called when its thread died; another one is started. */
  onCrash?(error: LoaderLostError): void
  /** Starts the thread. */
  spawn?(settings: LoaderSettings, name: string): Worker
  /** Waits before a restart; ends early when the signal aborts. */
  pause?(ms: number, signal: AbortSignal): Promise<unknown>
}

/** What is asked of a loader for an image. */
export interface LoadTask extends ReadTask {
  /** The field that holds the image, for errors. */
  param: string
  /** Bytes for which there is memory already. Default: any. */
  granted?: number
}

interface Read {
  room?(bytes: number): Promise<void>
  resolve(answer: WebAnswer | undefined): void
  reject(error: unknown): void
}

/** Time for a thread to end its decoders and connections, ms. */
const closeMs = 5_000

const spawnThread = (settings: LoaderSettings, name: string): Worker =>
  new Worker(new URL('./loader-thread.ts', import.meta.url), { workerData: settings, name })

/** A thread that reads images and has decoders. It is started again when it dies. */
export class Loader {
  readonly #options: LoaderOptions
  readonly #closing = new AbortController()
  #thread: Worker | undefined
  #post: Post<ToLoader> | undefined
  #exited: Promise<unknown> = Promise.resolve()
  readonly #reads = new Map<number, Read>()
  readonly #decoders = new Map<number, RemoteDecoder>()
  #ids = 0
  #crashes = 0
  #up = Promise.withResolvers<void>()

  constructor(options: LoaderOptions) {
    this.#options = options
    this.#start()
  }

  /** Whether its thread runs. */
  get isUp(): boolean {
    return this.#post !== undefined
  }

  /** Resolves when its thread runs, which it does again soon after it died. */
  get up(): Promise<void> {
    return this.#up.promise
  }

  /** Images that it reads. */
  get reading(): number {
    return this.#reads.size
  }

  /** Its decoders. */
  get decoders(): number {
    return this.#decoders.size
  }

  /** Share of its time in which its thread did something, since it was started, 0 to 1; and the parts, ms. */
  get busy(): { idle: number; active: number; utilization: number } {
    return this.#thread?.performance.eventLoopUtilization() ?? { idle: 0, active: 0, utilization: 0 }
  }

  /**
   * Reads an image; undefined for a key of the own store that has none.
   * @throws LoaderLostError; ImageError; the signal's reason
   */
  read(
    place: ImagePlace,
    { param, room, granted = Number.POSITIVE_INFINITY, signal }: LoadTask,
  ): Promise<WebAnswer | undefined> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<WebAnswer | undefined>()
    if (!this.#post) throw lost(this.#options.name)
    const id = ++this.#ids
    const post = this.#post
    const abort = () => {
      // An image that comes nevertheless is freed.
      this.#reads.delete(id)
      post({ kind: 'abort', id })
      reject(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
    const settle = () => signal.removeEventListener('abort', abort)
    this.#reads.set(id, {
      room,
      resolve: (answer) => {
        settle()
        resolve(answer)
      },
      reject: (error) => {
        settle()
        reject(error)
      },
    })
    post({ kind: 'read', id, place, param, room: granted })
    return promise
  }

  /** Starts a decoder, a child process of its own. */
  startDecoder(options: DecoderOptions): RunningDecoder {
    const id = ++this.#ids
    const decoder = new RemoteDecoder(id, this.#post, () => this.#decoders.delete(id))
    if (this.#post) this.#decoders.set(id, decoder)
    this.#post?.({ kind: 'start', decoder: id, options })
    return decoder
  }

  /** Ends the thread and its decoders; what it does is lost. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#post?.({ kind: 'close' })
    const thread = this.#thread
    const ended = await valueWithin(
      closeMs,
      this.#exited.then(() => true),
    )
    if (!ended) await thread?.terminate()
  }

  #start(): void {
    const { spawn = spawnThread, settings, name } = this.#options
    const thread = spawn(settings, name)
    this.#thread = thread
    this.#post = groupedPost<ToLoader>(thread)
    this.#up.resolve()
    let cause: unknown
    thread.on('error', (error) => {
      cause = error
    })
    thread.on('message', (messages: FromLoader[]) => {
      for (const message of messages) handle(this.#handlers, message)
    })
    this.#exited = new Promise((resolve) => {
      thread.on('exit', (code) => {
        resolve(undefined)
        this.#onExit(cause ?? new Error(`its thread exited with code ${code}`))
      })
    })
  }

  #onExit(cause: unknown): void {
    const { name, onCrash, pause = sleep } = this.#options
    this.#thread = this.#post = undefined
    this.#up = Promise.withResolvers()
    const error = lost(name, cause)
    const reads = [...this.#reads.values()]
    this.#reads.clear()
    for (const read of reads) read.reject(error)
    for (const decoder of [...this.#decoders.values()]) decoder.onEnd(error)
    const { signal } = this.#closing
    if (signal.aborted) return
    onCrash?.(error)
    void pause(backoffMs(++this.#crashes), signal).then(() => {
      if (!signal.aborted) this.#start()
    })
  }

  readonly #handlers: Handlers<FromLoader> = {
    open() {},
    room: (message) => this.#makeRoom(message),
    image: (message) => this.#receiveImage(message),
    location: (message) => this.#settle(message),
    none: (message) => this.#settle(message),
    failed: (message) => this.#settle(message),
    ready: ({ decoder }) => this.#decoders.get(decoder)?.onReady(),
    decoded: (message) => this.#decoders.get(message.decoder)?.onDecoded(message),
    refused: (message) => this.#decoders.get(message.decoder)?.onRefused(message),
    ended: ({ decoder }) => this.#decoders.get(decoder)?.onEnd(),
  }

  #makeRoom({ id, bytes }: FromLoader & { kind: 'room' }): void {
    const read = this.#reads.get(id)
    read?.room?.(bytes).then(
      () => this.#reads.has(id) && this.#post?.({ kind: 'room', id }),
      (error) => {
        if (!this.#reads.delete(id)) return
        this.#post?.({ kind: 'abort', id })
        read.reject(error)
      },
    )
  }

  #receiveImage({ id, bytes, refusal, ...head }: FromLoader & { kind: 'image' }): void {
    const read = this.#reads.get(id)
    const post = this.#post
    let isHeld = true
    const free = () => {
      if (isHeld) post?.({ kind: 'free', id })
      isHeld = false
    }
    this.#crashes = 0
    if (!this.#reads.delete(id)) free()
    const refused = refusal && { refusal: fromWire(refusal) as LoadedImage['head']['refusal'] }
    read?.resolve({ image: new LoadedImage(bytes, { ...head, ...refused }, free) })
  }

  #settle(message: FromLoader & { kind: 'location' | 'none' | 'failed' }): void {
    const read = this.#reads.get(message.id)
    if (!read) return
    this.#reads.delete(message.id)
    if (message.kind === 'failed') read.reject(fromWire(message.error))
    else read.resolve(message.kind === 'none' ? undefined : { location: message.location })
  }
}

const lost = (name: string, cause?: unknown) => new LoaderLostError(`The ${name} was lost.`, { cause })

/** A decoder of a loader. */
class RemoteDecoder implements RunningDecoder {
  readonly #id: number
  readonly #post: Post<ToLoader> | undefined
  readonly #forget: () => void
  readonly #started = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<void>()
  #pending: (DecodeJob & { resolve(decoded: Decoded): void; reject(error: Error): void }) | undefined
  #lost: DecoderLostError | undefined
  #grownBytes = 0

  constructor(id: number, post: Post<ToLoader> | undefined, forget: () => void) {
    this.#id = id
    this.#post = post
    this.#forget = forget
    if (!post) this.#end(new DecoderLostError('unavailable'))
  }

  get ready(): Promise<void> {
    return this.#started.promise
  }

  get usable(): boolean {
    return this.#lost === undefined && this.#pending === undefined
  }

  get grownBytes(): number {
    return this.#grownBytes
  }

  async decode(job: DecodeJob, limits: DecodeLimits): Promise<Decoded> {
    if (this.#lost) throw this.#lost
    const { promise, resolve, reject } = Promise.withResolvers<Decoded>()
    this.#pending = { ...job, resolve, reject }
    const { image, rule, target } = job
    const shape = expectedShape(rule, image)
    const pixels = shape && (typeof target === 'function' ? target(shape) : target)
    // Of an image in the bytes of a larger message, alone.
    const isShared = image.buffer instanceof SharedArrayBuffer
    const bytes = isShared ? image : new Uint8Array(image)
    this.#post!(
      {
        kind: 'decode',
        decoder: this.#id,
        image: bytes,
        rule,
        ...(pixels?.buffer instanceof SharedArrayBuffer && {
          pixels: pixels as Uint8Array<SharedArrayBuffer>,
        }),
        limits,
      },
      isShared ? [] : [bytes.buffer as ArrayBuffer],
    )
    try {
      return await promise
    } finally {
      this.#pending = undefined
    }
  }

  giveWay(): void {
    this.#post?.({ kind: 'give-way', decoder: this.#id })
  }

  kill(reason: LossReason): void {
    this.#post?.({ kind: 'kill', decoder: this.#id, reason })
  }

  async close(): Promise<void> {
    this.#post?.({ kind: 'end', decoder: this.#id })
    await this.#ended.promise
  }

  onReady(): void {
    this.#started.resolve()
  }

  onDecoded({ decoded, pixels, grownBytes }: FromLoader & { kind: 'decoded' }): void {
    this.#grownBytes = grownBytes
    const pending = this.#pending
    if (!pending) return
    const { target, rule, resolve, reject } = pending
    try {
      const shape = shapeOf(rule, decoded.width, decoded.height)
      const into = typeof target === 'function' ? target(shape) : target
      if (pixels) into.set(pixels)
      resolve({ ...decoded, shape })
    } catch (error) {
      reject(error as Error)
    }
  }

  onRefused({ error, usable, grownBytes }: FromLoader & { kind: 'refused' }): void {
    this.#grownBytes = grownBytes
    const cause = fromWire(error)
    if (!usable)
      this.#lost ??= cause instanceof DecoderLostError ? cause : new DecoderLostError('crash', cause)
    this.#pending?.reject(cause)
  }

  onEnd(cause?: unknown): void {
    this.#end(new DecoderLostError('crash', cause))
  }

  #end(loss: DecoderLostError): void {
    this.#lost ??= loss
    this.#forget()
    this.#pending?.reject(this.#lost)
    this.#ended.resolve()
  }
}

/** The shape of most pixels that an image can have by its header; undefined where that is unreadable, and needed. */
function expectedShape(rule: PictureRule, image: Uint8Array): PictureShape | undefined {
  if (rule.kind !== 'tiles' && rule.kind !== 'patches') return shapeOf(rule, 1, 1)
  const size = sizeOf(image)
  if (!size) return undefined
  try {
    // It may be turned before it is cut.
    const shapes = [shapeOf(rule, size.width, size.height), shapeOf(rule, size.height, size.width)]
    return shapes.toSorted((a, b) => pictureBytes(rule, b) - pictureBytes(rule, a))[0]
  } catch {
    return undefined
  }
}
