import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

/** Formats that libvips, as sharp brings it, does not read, and their names there. */
const coders = { HEIC: 'HEIC', BMP: 'BMP', 'JPEG XL': 'JXL', 'JPEG 2000': 'JP2' } as const

export type MagickFormat = keyof typeof coders

export const isReadByMagick = (format: string): format is MagickFormat => format in coders

/** Loaded when it is needed: it takes 70 MB and a tenth of a second. */
let loading: Promise<typeof import('@imagemagick/magick-wasm')> | undefined
const load = () => {
  loading ??= initialise()
  return loading
}

async function initialise() {
  const magick = await import('@imagemagick/magick-wasm')
  const program = await readFile(fileURLToPath(import.meta.resolve('@imagemagick/magick-wasm/magick.wasm')))
  await magick.initializeImageMagick(program)
  return magick
}

/**
 * Decodes the first picture of a file, in WebAssembly, to a TIFF without compression for libvips: 8 bits in sRGB or
 * grey, or with its profile; orientation applied. The format is given, so that no other code of the library reads the file.
 * @throws Error for what it cannot read
 */
export async function toTiff(bytes: Uint8Array, format: MagickFormat): Promise<Uint8Array> {
  const { ImageMagick, MagickFormat, MagickReadSettings } = await load()
  const isCodestream = format === 'JPEG 2000' && bytes[0] === 0xff
  const coder = isCodestream ? MagickFormat.J2k : coders[format]
  const settings = new MagickReadSettings({ format: coder, frameIndex: 0, frameCount: 1 })
  return ImageMagick.read(bytes, settings, (image) => {
    image.depth = 8
    return image.write(MagickFormat.Tiff, (tiff) => tiff.slice())
  })
}
