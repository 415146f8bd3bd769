import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parentPort } from 'node:worker_threads'
import {
  ImageMagick,
  initializeImageMagick,
  MagickFormat,
  MagickReadSettings,
} from '@imagemagick/magick-wasm'
import type { MagickReply, MagickTask } from './magick.ts'

/**
 * Thread that decodes one picture after another with ImageMagick, compiled to WebAssembly: it blocks its thread, and the
 * main one has to watch what it takes.
 */
const port = parentPort!
const program = await readFile(fileURLToPath(import.meta.resolve('@imagemagick/magick-wasm/magick.wasm')))
await initializeImageMagick(program)
port.on('message', (task: MagickTask) => {
  const reply = replyTo(task)
  port.postMessage(reply, reply.tiff ? [reply.tiff.buffer] : [])
})

function replyTo({ bytes, coder }: MagickTask): MagickReply {
  // The format is given, so that no other code of the library reads the file.
  const settings = new MagickReadSettings({ format: coder, frameIndex: 0, frameCount: 1 })
  try {
    const tiff = ImageMagick.read(bytes, settings, (image) => {
      image.depth = 8
      return image.write(MagickFormat.Tiff, (written) => new Uint8Array(written))
    })
    return { tiff }
  } catch (error) {
    return { error: String(error) }
  }
}
