import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { UsageError } from '../errors.ts'
import { countSources, readSources, resolveInputs } from './inputs.ts'

async function arrayOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

let folder: string
let skipped: Skipped

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-inputs-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function touch(...names: string[]): Promise<void> {
  for (const name of names) {
    const path = join(folder, name)
    await mkdir(join(path, '..'), { recursive: true })
    await writeFile(path, '')
  }
}

async function* text(value: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(value)
}

async function imagesOf(args: string[], stdin = ''): Promise<string[]> {
  skipped = {}
  const inputs = await resolveInputs(args)
  const sources = await arrayOf(readSources(inputs, { stdin: text(stdin), skipped }))
  return sources.map(({ image }) => image.replace(`${folder}/`, ''))
}

test('a folder gives the images of all folders below, sorted as whole paths, and nothing else', async () => {
  await touch('b.JPG', 'a/z.png', 'a/c/d.webp', 'a.gif', 'a-b.tiff', 'notes.txt', '.hidden.jpg', '.git/e.jpg')
  const images = await imagesOf([folder])
  expect(images).toEqual(['a-b.tiff', 'a.gif', 'a/c/d.webp', 'a/z.png', 'b.JPG'])
  expect(images).toEqual(images.toSorted())
})

test('what the name does not tell, the first bytes do', async () => {
  const heads: Record<string, string> = {
    a: '\xff\xd8\xff\xe0',
    'b.jpg?w=200': '\x89PNG\r\n\x1a\n',
    'c.php': 'GIF89a',
    'd.download': 'RIFF\0\0\0\0WEBP',
    'e.unknown': '\0\0\0 ftypheic',
    f: 'a text',
    'g.jpg_large': '<html>',
    h: '',
    'i.txt': '\xff\xd8\xff\xe0',
  }
  for (const [name, head] of Object.entries(heads)) await writeFile(join(folder, name), head, 'latin1')
  for (const name of ['j.jpe', 'k.JFIF', 'l.heic', 'm.bmp', 'n.jxl', '.o.jpg', '__MACOSX/p.jpg', 'Thumbs.db'])
    await touch(name)
  const images = [
    'a',
    'b.jpg?w=200',
    'c.php',
    'd.download',
    'e.unknown',
    'j.jpe',
    'k.JFIF',
    'l.heic',
    'm.bmp',
    'n.jxl',
  ]
  expect(await imagesOf([folder])).toEqual(images)
  expect(skipped).toEqual({ hidden: 3, not_image: 4 })
  expect(await imagesOf([`${folder}/*`])).toEqual(images)
  expect(await imagesOf([`${folder}/*/*`])).toEqual([])
  expect(await imagesOf([`${folder}/__MACOSX/*`])).toEqual(['__MACOSX/p.jpg'])
  expect(await imagesOf([`${folder}/.*`])).toEqual(['.o.jpg'])
})

test('what is in a folder and cannot be looked at is tried, and what is no file is counted', async () => {
  await symlink(join(folder, 'gone'), join(folder, 'link'))
  execFileSync('mkfifo', [join(folder, 'pipe'), join(folder, 'pipe.jpg')])
  expect(await imagesOf([folder])).toEqual(['link', 'pipe.jpg'])
  expect(skipped).toEqual({ not_regular: 1 })
})

test('links are followed, but not in circles', async () => {
  await touch('real/a.jpg')
  await symlink(join(folder, 'real'), join(folder, 'link'))
  await symlink(folder, join(folder, 'real', 'up'))
  expect(await imagesOf([folder])).toEqual(['link/a.jpg', 'real/a.jpg'])
})

test('a glob gives images in order and walks the folders that match', async () => {
  await touch('x1/b.jpg', 'x1/a.jpg', 'x2/deep/c.jpg', 'y/d.jpg', 'x1.txt')
  expect(await imagesOf([`${folder}/x*`])).toEqual(['x1/a.jpg', 'x1/b.jpg', 'x2/deep/c.jpg'])
})

test('a relative glob gives relative paths, as a relative folder does', async () => {
  await touch('x/a.jpg')
  const here = relative('', folder)
  expect(await imagesOf([`${here}/?/*.jpg`])).toEqual(await imagesOf([here]))
})

test('a name that looks like a glob and exists is that file', async () => {
  await touch('[1].jpg', '1.jpg')
  expect(await imagesOf([join(folder, '[1].jpg')])).toEqual(['[1].jpg'])
})

test('a manifest, standard input, a file of any name and an address are taken in the order given', async () => {
  await writeFile(join(folder, 'list.jsonl'), '{"image": "m.jpg"}\n\nn.jpg\n')
  await touch('photo')
  const args = ['https://example.com/a.jpg', join(folder, 'list.jsonl'), join(folder, 'photo'), '-']
  expect(await imagesOf(args, 'p.jpg\n')).toEqual([
    'https://example.com/a.jpg',
    'm.jpg',
    'n.jpg',
    'photo',
    'p.jpg',
  ])
})

test.each([
  ['compressed', gzipSync('a.jpg\n'), /list\.txt: This is an archive, not a list\. Unpack it\./],
  ['a page', Buffer.from('<!doctype html><title>Sign in</title>\n<p>\n'), /HTML/],
  ['a pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'), /git lfs pull/],
])('what is %s is no list, and refused by its name', async (_, content, message) => {
  await writeFile(join(folder, 'list.txt'), content)
  await expect(imagesOf([join(folder, 'list.txt')])).rejects.toThrow(message)
  await expect(imagesOf([join(folder, 'list.txt')])).rejects.toThrow(UsageError)
})

test('names that begin like a format are a list', async () => {
  await writeFile(join(folder, 'list.txt'), 'P1 front.jpg\nP2 back.jpg\n')
  expect(await imagesOf([join(folder, 'list.txt')])).toEqual(['P1 front.jpg', 'P2 back.jpg'])
})

test.each(['-', '/dev/stdin', '/dev/fd/0'])(
  'standard input is a list by any of its names: %s',
  async (name) => {
    expect(await imagesOf([name], 'a.jpg\n')).toEqual(['a.jpg'])
  },
)

test('what does not exist is refused before any work', async () => {
  await expect(resolveInputs([join(folder, 'nothing')])).rejects.toThrow(UsageError)
})

test('sources are counted, unless standard input is among them', async () => {
  await touch('a/1.jpg', 'a/2.jpg')
  await writeFile(join(folder, 'list.jsonl'), 'x.jpg\n\n{broken\n')
  const inputs = await resolveInputs([join(folder, 'a'), join(folder, 'list.jsonl')])
  expect(await countSources(inputs)).toBe(4)
  expect(await countSources(await resolveInputs(['-', folder]))).toBeUndefined()
})
