import { Worker } from 'node:worker_threads'

/** Formats that libvips, as sharp brings it, does not read, and their names there. */
const coders = { HEIC: 'HEIC', BMP: 'BMP', 'JPEG XL': 'JXL', 'JPEG 2000': 'JP2' } as const

export type MagickFormat = keyof typeof coders

export const isReadByMagick = (format: string): format is MagickFormat => format in coders

/** What the thread is asked. */
export interface MagickTask {
  bytes: Uint8Array
  coder: (typeof coders)[MagickFormat] | 'J2K'
}

export interface MagickReply {
  tiff?: Uint8Array<ArrayBuffer>
  error?: string
}

/** Started when it is needed: it takes 70 MB and a tenth of a second. */
let thread: Worker | undefined
/** One picture at a time. */
let last: Promise<unknown> = Promise.resolve()

/**
 * Decodes the first picture of a file to a TIFF without compression for libvips: 8 bits in sRGB or grey, or with its
 * profile; orientation applied.
 * @throws Error for what cannot be read
 */
export function toTiff(bytes: Uint8Array, format: MagickFormat): Promise<Uint8Array> {
  const isCodestream = format === 'JPEG 2000' && bytes[0] === 0xff
  const task: MagickTask = { bytes, coder: isCodestream ? 'J2K' : coders[format] }
  const decoded = last.then(() => ask(task))
  last = decoded.catch(() => undefined)
  return decoded
}

function ask(task: MagickTask): Promise<Uint8Array> {
  const worker = thread ?? start()
  worker.ref()
  return new Promise<Uint8Array>((resolve, reject) => {
    const onEnd = (cause: unknown) => reject(new Error('The decoder ended.', { cause }))
    worker.once('exit', onEnd).once('message', ({ tiff, error }: MagickReply) => {
      worker.off('exit', onEnd).unref()
      if (tiff) return resolve(tiff)
      // What failed may have left the memory of the library in disorder.
      thread = undefined
      void worker.terminate()
      reject(new Error(error))
    })
    worker.postMessage(task)
  })
}

function start(): Worker {
  // Else its output is piped to that of the process, which from then on does not block; a decoder's has to.
  const worker = new Worker(new URL('./magick-thread.ts', import.meta.url), { stdout: true, stderr: true })
  thread = worker
  worker.on('error', () => {})
  worker.once('exit', () => {
    if (thread === worker) thread = undefined
  })
  return worker
}
