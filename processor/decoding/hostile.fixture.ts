import sharp from 'sharp'

/** A picture of noise, which compresses badly. */
export const noise = (width = 64, height = 48) =>
  sharp({
    create: {
      width,
      height,
      channels: 3,
      background: 'red',
      noise: { type: 'gaussian', mean: 128, sigma: 30 },
    },
  })

/** A progressive JPEG whose last scan is repeated. */
export async function jpegOfScans(scans: number, side = 64): Promise<Buffer> {
  const jpeg = await noise(side, side).jpeg({ progressive: true, quality: 5 }).toBuffer()
  const last = jpeg.lastIndexOf(Buffer.from([0xff, 0xda]))
  const end = jpeg.subarray(-2)
  return Buffer.concat([jpeg.subarray(0, last), ...Array<Buffer>(scans).fill(jpeg.subarray(last, -2)), end])
}

/** A GIF of frames of one pixel. */
export function gifOfFrames(frames: number): Buffer {
  const head = Buffer.from('GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff', 'latin1')
  const frame = Buffer.from('\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0', 'latin1')
  return Buffer.concat([head, ...Array<Buffer>(frames).fill(frame), Buffer.from(';')])
}

/** A TIFF without pixels: 32-bit numbers by tag, and pages of the same. */
export function tiffOf(tags: [number, number][], pages = 1): Buffer {
  const page = 2 + tags.length * 12 + 4
  const bytes = Buffer.alloc(8 + pages * page)
  bytes.set([0x49, 0x49, 0x2a, 0])
  bytes.writeUInt32LE(8, 4)
  for (let at = 8; at < bytes.length; at += page) {
    bytes.writeUInt16LE(tags.length, at)
    for (const [index, [tag, value]] of tags.entries()) {
      const entry = at + 2 + index * 12
      bytes.writeUInt16LE(tag, entry)
      bytes.writeUInt16LE(4, entry + 2)
      bytes.writeUInt32LE(1, entry + 4)
      bytes.writeUInt32LE(value, entry + 8)
    }
    const next = at + page
    bytes.writeUInt32LE(next < bytes.length ? next : 0, next - 4)
  }
  return bytes
}

/** A large picture of one colour in few bytes. */
export const flatAvif = (side: number) =>
  sharp({ create: { width: side, height: side, channels: 3, background: 'red' } })
    .avif({ effort: 0 })
    .toBuffer()

/** A black BMP of one bit a pixel. */
export function flatBmp(side: number): Buffer {
  const row = 4 * Math.ceil(side / 32)
  const bytes = Buffer.alloc(62 + row * side)
  bytes.write('BM')
  bytes.writeUInt32LE(bytes.length, 2)
  bytes.writeUInt32LE(62, 10)
  bytes.writeUInt32LE(40, 14)
  bytes.writeInt32LE(side, 18)
  bytes.writeInt32LE(side, 22)
  bytes.writeUInt16LE(1, 26)
  bytes.writeUInt16LE(1, 28)
  return bytes
}

/** An AVIF that says it is of this size; its picture is small. */
export async function avifHeader(side: number): Promise<Buffer> {
  const avif = await flatAvif(100)
  const sizeAt = avif.indexOf('ispe') + 8
  avif.writeUInt32BE(side, sizeAt)
  avif.writeUInt32BE(side, sizeAt + 4)
  return avif
}

/** An AVIF whose header is behind more bytes than are searched for it. */
export async function hiddenAvif(side: number): Promise<Buffer> {
  const avif = await flatAvif(side)
  const boxesAt = avif.readUInt32BE(0)
  const free = Buffer.alloc(40_000)
  free.writeUInt32BE(free.length)
  free.write('free', 4)
  // `iloc` says where in the file the picture is.
  const pictureAt = Buffer.alloc(4)
  pictureAt.writeUInt32BE(avif.indexOf('mdat') + 4)
  const saidAt = avif.indexOf(pictureAt)
  avif.writeUInt32BE(avif.readUInt32BE(saidAt) + free.length, saidAt)
  return Buffer.concat([avif.subarray(0, boxesAt), free, avif.subarray(boxesAt)])
}
