import { parentPort, workerData } from 'node:worker_threads'
import { ImageError } from '../../../edge/contract/errors.ts'
import { checkImage, imageSize } from '../../../edge/contract/image.ts'
import { readImageFile } from '../../../infra/fetch/image-file.ts'
import { openImageReader } from '../../../infra/fetch/node.ts'
import { webSettings } from '../../../infra/fetch/web-settings.ts'
import { getBytes } from '../../../infra/store/store.ts'
import { PixelBuffers, type PixelSlot } from '../../engine/pixel-buffers.ts'
import { pictureBytes } from '../../models/pictures.ts'
import { Decoder, DecoderLostError } from '../decoder.ts'
import { groupedPost, type Handlers, handle } from './grouped-port.ts'
import type { FromLoader, LoaderSettings, ToLoader } from './messages.ts'
import { toWire } from './wire-error.ts'

/**
 * Thread that reads images into memory that threads share, and pipes them to decoders, which are its child processes. What is
 * read and decoded, and when, is decided by the main thread.
 */

/** Free memory of images that is kept, bytes. */
const keptBytes = 32 * 1024 ** 2

const port = parentPort!
const settings = workerData as LoaderSettings
const post = groupedPost<FromLoader>(port)
const buffers = new PixelBuffers({ keptBytes })
const reads = new Map<number, { abort: AbortController; room: () => void }>()
/** Memory of images that were read. */
const held = new Map<number, PixelSlot>()
const decoders = new Map<number, Decoder>()
const web = openImageReader({
  ...webSettings(settings.config, settings.version),
  maxBytes: settings.maxBytes,
  ...(settings.readsFiles && { readFile: readImageFile }),
})
let stores: ReturnType<typeof openReader> | undefined

const handlers: Handlers<ToLoader> = {
  read,
  room: ({ id }) => reads.get(id)?.room(),
  abort: ({ id }) => reads.get(id)?.abort.abort(),
  free({ id }) {
    held.get(id)?.release()
    held.delete(id)
  },
  start,
  decode,
  'give-way': ({ decoder }) => decoders.get(decoder)?.giveWay(),
  kill: ({ decoder, reason }) => decoders.get(decoder)?.kill(reason),
  end: ({ decoder }) => decoders.get(decoder)?.close(),
  close,
}
port.on('message', (messages: ToLoader[]) => {
  for (const message of messages) handle(handlers, message)
})
post({ kind: 'open' })

async function read({ id, place, param, room: granted }: ToLoader & { kind: 'read' }): Promise<void> {
  const abort = new AbortController()
  const more = Promise.withResolvers<void>()
  reads.set(id, { abort, room: more.resolve })
  const { signal } = abort
  const room = async (bytes: number) => {
    if (bytes <= granted) return
    post({ kind: 'room', id, bytes })
    await more.promise
  }
  const task = { signal, room }
  try {
    if ('web' in place) {
      const answer = await web.reader.web(new URL(place.web), task)
      if ('location' in answer) return post({ kind: 'location', id, ...answer })
      return tell(id, answer.image, param)
    }
    if ('data' in place) return tell(id, await web.reader.data(place.data, task), param)
    if ('file' in place) return tell(id, await web.reader.file!(place.file, task), param)
    stores ??= openReader()
    const { object, store } = await stores
    if ('object' in place) return tell(id, await object!(place.object, task), param)
    const image = await getBytes(store, place.stored)
    if (image) tell(id, image, param)
    else post({ kind: 'none', id })
  } catch (error) {
    post({ kind: 'failed', id, error: toWire(error) })
  } finally {
    reads.delete(id)
  }
}

/** Opened when they are needed: clients of servers take time and memory. */
async function openReader() {
  const { config, version, maxBytes } = settings
  const { openStores } = await import('../../../infra/backends.ts')
  const opened = await openStores(config, { guest: true })
  const { buckets } = opened
  const options = { ...webSettings(config, version), maxBytes, buckets }
  return { ...opened, object: openImageReader(options).reader.object }
}

function tell(id: number, image: Uint8Array, param: string): void {
  const slot = buffers.take(image.length)
  slot.pixels.set(image)
  held.set(id, slot)
  post({ kind: 'image', id, bytes: slot.pixels, ...headOf(image, param) })
}

function headOf(image: Uint8Array, param: string) {
  try {
    return { work: checkImage(image, param, settings.limits), size: imageSize(image) }
  } catch (error) {
    if (error instanceof ImageError) return { refusal: toWire(error) }
    throw error
  }
}

function start({ decoder: id, options }: ToLoader & { kind: 'start' }): void {
  const decoder = new Decoder(options)
  decoders.set(id, decoder)
  void decoder.ready.then(() => post({ kind: 'ready', decoder: id }))
  void decoder.ended.then(() => {
    decoders.delete(id)
    post({ kind: 'ended', decoder: id })
  })
}

async function decode(message: ToLoader & { kind: 'decode' }): Promise<void> {
  const { decoder: id, image, rule, pixels, limits } = message
  const decoder = decoders.get(id)
  let more: Uint8Array<SharedArrayBuffer> | undefined
  try {
    if (!decoder) throw new DecoderLostError('crash')
    const { shape, ...decoded } = await decoder.decode(
      {
        image,
        rule,
        target: (shape) => {
          const bytes = pictureBytes(rule, shape)
          if (pixels && bytes <= pixels.length) return pixels.subarray(0, bytes)
          more = new Uint8Array(new SharedArrayBuffer(bytes))
          return more
        },
      },
      limits,
    )
    post({ kind: 'decoded', decoder: id, decoded, pixels: more, grownBytes: decoder.grownBytes })
  } catch (error) {
    const { usable = false, grownBytes = 0 } = decoder ?? {}
    post({ kind: 'refused', decoder: id, error: toWire(error), usable, grownBytes })
  }
}

async function close(): Promise<void> {
  for (const { abort } of reads.values()) abort.abort()
  await Promise.all([...decoders.values()].map((decoder) => decoder.close()))
  await web.close()
  const opened = await stores?.catch(() => undefined)
  await opened?.close()
  // Connections that are being made would keep it.
  process.exit()
}
