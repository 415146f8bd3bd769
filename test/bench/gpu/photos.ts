import { link, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { benchFolder } from '../folders.ts'
import { smoothPixels } from '../pixels.ts'

/** Sizes of a photo, pixels. */
const size = { width: 640, height: 480 }
const different = 32

/** A folder of JPEG photos, kept between runs; a few different ones under many names. */
export async function photoFolder(count: number): Promise<string> {
  const folder = join(benchFolder, `photos-${count}`)
  const there = await readdir(folder).catch(() => [])
  if (there.length === count) return folder
  const part = `${folder}.part`
  await rm(part, { recursive: true, force: true })
  await mkdir(part, { recursive: true })
  const name = (at: number) => join(part, `${String(at).padStart(6, '0')}.jpg`)
  const first = Math.min(count, different)
  const pixels = smoothPixels(first, size)
  const bytes = pixels.length / first
  for (let at = 0; at < first; at++) {
    const raw = pixels.subarray(at * bytes, (at + 1) * bytes)
    await writeFile(
      name(at),
      await sharp(raw, { raw: { ...size, channels: 3 } })
        .jpeg({ quality: 85 })
        .toBuffer(),
    )
  }
  for (let at = first; at < count; at++) await link(name(at % first), name(at))
  await rm(folder, { recursive: true, force: true })
  await rename(part, folder)
  return folder
}
