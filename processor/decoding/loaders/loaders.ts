import type { ImageReader, WebAnswer } from '../../../infra/fetch/image-reader.ts'
import { unlessAborted } from '../../../infra/timing.ts'
import type { DecoderOptions, RunningDecoder } from '../decoder.ts'
import type { LoadedImage } from './loaded-image.ts'
import { Loader, LoaderLostError, type LoaderOptions, type LoadTask } from './loader.ts'
import type { ImagePlace } from './messages.ts'

export interface LoadersOptions extends Omit<LoaderOptions, 'name'> {
  /** Threads. */
  size: number
  /** Whether there is S3, so that objects of buckets can be read. */
  hasBuckets: boolean
  /** Called for every image that was read, with its bytes. */
  onRead?(bytes: number): void
}

/** Memory that is reserved before the size of an image is known, bytes. */
const usualBytes = 512 * 1024

/** Images of one process are read and decoded by these threads, one of which takes the next that is read. */
export class Loaders {
  readonly #options: LoadersOptions
  readonly #loaders: Loader[]
  /** Reads images into memory of all threads, for `imageSourceOf`; they are `LoadedImage`s. */
  readonly reader: ImageReader

  constructor(options: LoadersOptions) {
    this.#options = options
    this.#loaders = Array.from(
      { length: options.size },
      (_, index) => new Loader({ ...options, name: `loader ${index + 1}` }),
    )
    const param = 'image_url'
    const image = async (place: ImagePlace, task: LoadTask) => imageOf(await this.#read(place, task))
    this.reader = {
      web: async (url, task) => (await this.#read({ web: url.href }, { ...task, param }))!,
      data: (url, task) => image({ data: url }, { ...task, param }),
      ...(options.hasBuckets && { object: (object, task) => image({ object }, { ...task, param }) }),
      ...(options.settings.readsFiles && { file: (path, task) => image({ file: path }, { ...task, param }) }),
    }
  }

  get size(): number {
    return this.#loaders.length
  }

  /** Images being read. */
  get reading(): number {
    return this.#loaders.reduce((sum, { reading }) => sum + reading, 0)
  }

  /** Time in which the threads did something, and in which they waited, ms. */
  get busy(): { activeMs: number; idleMs: number }[] {
    return this.#loaders.map(({ busy }) => ({ activeMs: busy.active, idleMs: busy.idle }))
  }

  /** Reads an image that the service keeps; undefined when there is none. @throws StoreUnavailableError; the signal's reason */
  async stored(key: string, { signal }: { signal: AbortSignal }): Promise<LoadedImage | undefined> {
    const answer = await this.#read({ stored: key }, { signal, param: 'image' })
    return answer && (imageOf(answer) as LoadedImage)
  }

  /** Starts a decoder, at the loader that has the fewest. */
  startDecoder(options: DecoderOptions): RunningDecoder {
    return this.#least(({ decoders }) => decoders).startDecoder(options)
  }

  /** Ends the threads and their decoders; what they do is lost. */
  async close(): Promise<void> {
    await Promise.all(this.#loaders.map((loader) => loader.close()))
  }

  /** What a loader was reading when it died is read again, once, by another one. */
  async #read(place: ImagePlace, task: LoadTask): Promise<WebAnswer | undefined> {
    let granted: number | undefined
    const room =
      task.room &&
      (async (bytes: number) => {
        await task.room!(bytes)
        granted = bytes
      })
    // Most images are smaller, so that their loader need not ask.
    await room?.(usualBytes)
    const read = async () => this.#least(({ reading }) => reading).read(place, { ...task, room, granted })
    const answer = await read().catch(async (error: unknown) => {
      if (!(error instanceof LoaderLostError)) throw error
      await unlessAborted(Promise.race(this.#loaders.map(({ up }) => up)), task.signal)
      return read()
    })
    if (answer && 'image' in answer) this.#options.onRead?.(answer.image.length)
    return answer
  }

  /** Of those whose thread runs, if there is one. */
  #least(count: (loader: Loader) => number): Loader {
    const up = this.#loaders.filter(({ isUp }) => isUp)
    return (up.length > 0 ? up : this.#loaders).reduce((a, b) => (count(b) < count(a) ? b : a))
  }
}

function imageOf(answer: WebAnswer | undefined): Uint8Array {
  if (answer && 'image' in answer) return answer.image
  throw new Error('The loader found no image.')
}
