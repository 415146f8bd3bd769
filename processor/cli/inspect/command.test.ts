import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ImageError } from '../../../edge/contract/errors.ts'
import { readImageFile } from '../../../infra/fetch/image-file.ts'
import { readSafetensorsHeader } from '../../onnx/safetensors.ts'
import { IncompleteError } from '../errors.ts'
import {
  type InspectFlags,
  runInspect,
  stemOf,
  type Trace,
  type TraceOptions,
  uniqueName,
} from './command.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-inspect-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** A 2 x 2 grid of patches, of which two became one token. */
const trace: Trace = {
  pixels: new Uint8Array(8 * 8 * 3).fill(7),
  height: 8,
  width: 8,
  patch: 4,
  tokens: { data: new Float32Array(4 * 2), dim: 2 },
  sizes: Float32Array.of(1, 2, 1, 1),
  source: BigInt64Array.of(0n, 1n, 2n, 1n, 3n),
  ids: BigInt64Array.of(5n, 9n, 3n),
  caption: 'a fish',
}

async function inspect(names: string[], flags: Partial<InspectFlags> = {}) {
  const seen: TraceOptions[] = []
  const images: string[] = []
  let stdout = ''
  let stderr = ''
  const error: unknown = await runInspect(
    names.map((name) => join(folder, name)),
    {
      r: 1,
      alpha: 5,
      beta: 1,
      gamma: 0,
      threshold: 40,
      mode: 'turbo',
      out: join(folder, 'out'),
      ...flags,
    },
    {
      openInspector: async () => ({
        trace: async (image, options) => {
          images.push(Buffer.from(image).toString())
          seen.push(options)
          if (images.at(-1) === 'bad') throw new ImageError('image_invalid', 'Not an image.')
          return trace
        },
        close: async () => {},
      }),
      readImage: readImageFile,
      stdin: (async function* () {})(),
      stdout: { write: (text) => (stdout += text) },
      stderr: { write: (text) => (stderr += text) },
    },
  ).catch((thrown) => thrown)
  return { error, seen, images, stdout, stderr }
}

test('a file per image with every tensor, and one line about it', async () => {
  await writeFile(join(folder, 'photo.jpg'), 'bytes')
  const { images, seen, stdout, error } = await inspect(['photo.jpg'], { r: [4, 2], mode: 'tome' })
  expect(error).toBeUndefined()
  expect(images).toEqual(['bytes'])
  expect(seen).toMatchObject([{ r: [4, 2], alpha: 5, beta: 1, gamma: 0, threshold: 40, mode: 'tome' }])
  const tensors = await readSafetensorsHeader(join(folder, 'out', 'photo.safetensors'))
  expect(Object.fromEntries([...tensors].map(([name, { type, shape }]) => [name, [type, shape]]))).toEqual({
    pixels: ['U8', [8, 8, 3]],
    tokens: ['F32', [4, 2]],
    sizes: ['F32', [4]],
    source: ['I64', [5]],
    ids: ['I64', [3]],
  })
  expect(stdout).toBe(
    `${folder}/photo.jpg: 5 -> 4 tokens (25.0 % merged), "a fish", ${folder}/out/photo.safetensors\n`,
  )
})

test('--picture draws a PNG beside it', async () => {
  await writeFile(join(folder, 'photo.jpg'), 'bytes')
  const { stdout } = await inspect(['photo.jpg'], { picture: true })
  expect(stdout).toContain('photo.png')
  const { width, height, format } = await sharp(join(folder, 'out', 'photo.png')).metadata()
  expect([format, width! / height!, width! > 8]).toEqual(['png', 1, true])
})

test('images of one name do not overwrite each other', async () => {
  for (const name of ['a', 'b']) {
    await mkdir(join(folder, name))
    await writeFile(join(folder, name, 'photo.jpg'), name)
  }
  await inspect(['a', 'b'])
  expect((await readdir(join(folder, 'out'))).sort()).toEqual(['photo-2.safetensors', 'photo.safetensors'])
})

test('a bad image is told, the others are written, and the command fails', async () => {
  await writeFile(join(folder, '1.jpg'), 'bad')
  await writeFile(join(folder, '2.jpg'), 'good')
  const { error, stderr } = await inspect(['1.jpg', '2.jpg'])
  expect(error).toBeInstanceOf(IncompleteError)
  expect(stderr).toContain('1.jpg: Not an image.')
  expect(await readdir(join(folder, 'out'))).toEqual(['2.safetensors'])
})

test('names of files come from names of images', () => {
  expect(stemOf('photos/a.b.jpg')).toBe('a.b')
  expect(stemOf('https://example.com/x/cat.png?size=2')).toBe('cat')
  expect(stemOf('https://example.com/')).toBe('image')
  expect(stemOf('sha256:abcd')).toBe('sha256_abcd')
  const taken = new Set<string>()
  expect(['a', 'A', 'a-2', 'a'].map((stem) => uniqueName(stem, taken))).toEqual(['a', 'A-2', 'a-2-2', 'a-3'])
})

test('no image is replaced by the picture of another', async () => {
  const photos = ['a.jpg', 'a.png', 'b.jpg']
  for (const name of photos) await writeFile(join(folder, name), name)
  await mkdir(join(folder, 'out'))
  await symlink(join(folder, 'b.jpg'), join(folder, 'out', 'b.png'))
  for (const out of [folder, join(folder, 'out', '..')]) {
    const { error, stderr } = await inspect(['a.jpg', 'a.png'], { out, picture: true })
    expect(error).toBeInstanceOf(IncompleteError)
    expect(stderr).toContain('Choose another --out')
  }
  // A link in the output folder is not followed to what it leads to.
  await inspect(['a.jpg'], { picture: true })
  for (const name of photos) expect(await readFile(join(folder, name), 'utf8')).toBe(name)
  expect((await readdir(folder)).sort()).toEqual([...photos, 'out'])
})
