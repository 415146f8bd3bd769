import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { preprocess } from '../engine/preprocess.ts'
import {
  limitPixels,
  type PictureRule,
  type PictureShape,
  pictureBytes,
  type SquashRule,
  shapeOf,
} from '../models/pictures.ts'
import { type DecodeLimits, Decoder } from './decoder.ts'
import { flatAvif, flatBmp, noise } from './hostile.fixture.ts'

const image: SquashRule = { kind: 'squash', width: 96, height: 96, resample: 'bicubic' }
const ample: DecodeLimits = { memoryBytes: 1e9, cpuMs: 60_000, wallMs: 60_000 }
const started: Decoder[] = []
const fixture = (name: string) => readFile(new URL(`../../test/fixtures/formats/${name}`, import.meta.url))

function start(): Decoder {
  const decoder = new Decoder()
  started.push(decoder)
  return decoder
}
afterEach(() => Promise.all(started.splice(0).map((decoder) => decoder.close())))

const pixelsOf = () => new Uint8Array(new SharedArrayBuffer(image.width * image.height * 3))

const jobOf = (bytes: Uint8Array) => ({ image: bytes, rule: image, target: pixelsOf() })

/** Whether a process is there; a zombie is. */
function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Whether an orphan runs; who inherited it may not have collected it yet. */
async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return status === undefined ? isThere(pid) : !/\) [ZX] /.test(status)
}

describe('Decoder', () => {
  it('decodes bit for bit as this process does', async () => {
    const decoder = start()
    const files = [
      await readFile(bundledPictures[0]!),
      await noise(900, 700).png().toBuffer(),
      await noise(50, 20).webp().toBuffer(),
      await noise(30, 90).jpeg().withMetadata({ orientation: 6 }).toBuffer(),
      await fixture('grid.heic'),
      await fixture('4-bit-rle.bmp'),
      await fixture('lossy.jxl'),
      await fixture('float32-to-1.tif'),
    ]
    for (const file of files) {
      const [here, there] = [pixelsOf(), pixelsOf()]
      await preprocess(file, image, here)
      await decoder.decode({ image: file, rule: image, target: there }, ample)
      expect(Buffer.compare(here, there)).toBe(0)
    }
  })

  it('tells of an image whose end is missing, where that is accepted', async () => {
    const decoder = new Decoder({ preprocess: { truncated: 'accept' } })
    started.push(decoder)
    const jpeg = await noise().jpeg().toBuffer()
    expect((await decoder.decode(jobOf(jpeg), ample)).warnings).toEqual([])
    // Without its last two bytes alone a decoder may have all pixels.
    expect((await decoder.decode(jobOf(jpeg.subarray(0, -60)), ample)).warnings).toEqual(['truncated'])
  })

  it('passes on pixels that are more than a pipe holds, whatever decoded them', async () => {
    const large: SquashRule = { kind: 'squash', width: 384, height: 384, resample: 'bicubic' }
    const decoder = new Decoder()
    started.push(decoder)
    const target = new Uint8Array(384 * 384 * 3)
    for (const file of ['plain.heic', 'lossy.jxl', 'lossless.jp2', '24-bit.bmp', 'big.tif'])
      await decoder.decode({ image: await fixture(file), rule: large, target }, ample)
    await decoder.decode({ image: await noise(3000, 2000).png().toBuffer(), rule: large, target }, ample)
  })

  it.each([
    { kind: 'tiles', longestEdge: 192, tile: 64, split: true, resample: 'lanczos3' },
    { kind: 'patches', patch: 8, merge: 2, minPixels: 1024, maxPixels: 90_000, resample: 'bicubic' },
    { kind: 'crop', shortest: 64, height: 48, width: 56, resample: 'bicubic' },
    { kind: 'pad', side: 64, resample: 'bicubic', background: [255, 255, 255] },
  ] as PictureRule[])('decodes pictures of any size: $kind', async (rule) => {
    const decoder = new Decoder()
    started.push(decoder)
    const decode = async (file: Uint8Array, asked = rule) => {
      let pixels = new Uint8Array(0)
      const target = (shape: PictureShape) => {
        pixels = new Uint8Array(pictureBytes(asked, shape))
        return pixels
      }
      const { cpuMs, ...decoded } = await decoder.decode({ image: file, rule: asked, target }, ample)
      expect(cpuMs).toBeGreaterThan(0)
      return { ...decoded, pixels }
    }
    const turned = await noise(300, 200).jpeg().withMetadata({ orientation: 6 }).toBuffer()
    for (const file of [
      await noise(900, 700).png().toBuffer(),
      turned,
      await noise(40, 30).png().toBuffer(),
    ]) {
      const there = await decode(file)
      const here = new Uint8Array(there.pixels.length)
      const { warnings, ...expected } = await preprocess(file, rule, here)
      expect(there).toMatchObject({ ...expected, warnings: [] })
      expect(Buffer.compare(here, there.pixels)).toBe(0)
    }
    const limited = await decode(turned, limitPixels(rule, 64 * 64))
    expect(limited).toMatchObject({ width: 200, height: 300 })
    expect(limited.shape).toEqual(shapeOf(limitPixels(rule, 64 * 64), 200, 300))
  })

  it('passes on the error of an image, leaves the target as it was, and goes on', async () => {
    const decoder = start()
    const png = await noise().png().toBuffer()
    const target = pixelsOf().fill(9)
    await expect(
      decoder.decode({ ...jobOf(png.subarray(0, png.length >> 1)), target }, ample),
    ).rejects.toMatchObject({
      name: 'ImageError',
      code: 'image_invalid',
      status: 400,
      param: 'image',
    })
    expect(target.every((value) => value === 9)).toBe(true)
    expect(decoder.usable).toBe(true)
    await decoder.decode({ ...jobOf(png), target }, ample)
  })

  it.each([
    ['memory', { memoryBytes: 20e6 }, 'AVIF'],
    ['time', { cpuMs: 30 }, 'AVIF'],
    ['time', { wallMs: 200 }, 'AVIF'],
    // Read by code that blocks its thread.
    ['memory', { memoryBytes: 150e6 }, 'BMP'],
    ['time', { cpuMs: 300 }, 'BMP'],
  ])('ends when an image takes too much %s', async (reason, limits, format) => {
    const decoder = start()
    await decoder.decode(jobOf(await noise().png().toBuffer()), ample)
    const large = format === 'BMP' ? flatBmp(12_000) : await flatAvif(3500)
    const decoding = decoder.decode(jobOf(large), { ...ample, ...limits })
    await expect(decoding).rejects.toMatchObject({ name: 'DecoderLostError', reason })
    expect(decoder.usable).toBe(false)
    expect(isThere(decoder.pid!)).toBe(false)
  })

  it('gives an image more time when the machine gave it none', async () => {
    const decoder = start()
    const png = await noise().png().toBuffer()
    await decoder.decode(jobOf(png), ample)
    process.kill(decoder.pid!, 'SIGSTOP')
    const decoding = decoder.decode(jobOf(png), { ...ample, wallMs: 150 })
    await pause(400)
    process.kill(decoder.pid!, 'SIGCONT')
    await expect(decoding).resolves.toBeDefined()
  })

  it('is lost when something else kills it, without a zombie', async () => {
    const decoder = start()
    await decoder.decode(jobOf(await noise().png().toBuffer()), ample)
    const decoding = decoder.decode(jobOf(await flatAvif(3500)), ample)
    process.kill(decoder.pid!, 'SIGKILL')
    await expect(decoding).rejects.toMatchObject({ reason: 'crash' })
    expect(isThere(decoder.pid!)).toBe(false)
  })

  it('ignores the signals of a terminal and of a supervisor', async () => {
    const decoder = start()
    const png = await noise().png().toBuffer()
    await decoder.decode(jobOf(png), ample)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.kill(decoder.pid!, signal)
    await decoder.decode(jobOf(png), ample)
  })

  it.each([
    ['idle', 0],
    ['decoding', 5500],
  ])('ends with a parent that is killed, %s', async (_, side) => {
    const file = fileURLToPath(new URL('./decoder.ts', import.meta.url))
    const fixture = fileURLToPath(new URL('./hostile.fixture.ts', import.meta.url))
    const script = `
      const { Decoder } = await import(${JSON.stringify(file)})
      const { hiddenAvif, noise } = await import(${JSON.stringify(fixture)})
      const decoder = new Decoder()
      const decode = (bytes) => decoder.decode(
        { image: bytes, rule: ${JSON.stringify(image)}, target: new Uint8Array(96 * 96 * 3) },
        ${JSON.stringify(ample)},
      )
      await decode(await noise().png().toBuffer())
      const large = ${side} ? await hiddenAvif(${side}) : undefined
      if (large) decode(large)
      console.log(decoder.pid)
      setInterval(() => {}, 1000)
    `
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const pid = Number(line.toString())
    expect(isThere(pid)).toBe(true)
    if (side) await pause(50)
    parent.kill('SIGKILL')
    await once(parent, 'exit')
    // Decoding takes longer.
    await expect.poll(() => isRunning(pid), { timeout: 700 }).toBe(false)
  })
})
