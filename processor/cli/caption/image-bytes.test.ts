import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readImage } from './image-bytes.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-image-'))
})
afterEach(() => rm(folder, { recursive: true }))

const read = async (location: string) =>
  Buffer.from(await readImage(location, async (url) => Buffer.from(`fetched ${url}`))).toString()

test('paths, data: URLs and addresses give bytes', async () => {
  const path = join(folder, 'a.jpg')
  await writeFile(path, 'from disk')
  expect(await read(path)).toBe('from disk')
  expect(await read(`data:image/png;base64,${Buffer.from('inline').toString('base64')}`)).toBe('inline')
  expect(await read('https://example.com/a.jpg')).toBe('fetched https://example.com/a.jpg')
})

test('what cannot be read has a code that says why', async () => {
  await expect(read(join(folder, 'gone.jpg'))).rejects.toMatchObject({ code: 'image_not_found', status: 400 })
  await expect(read(folder)).rejects.toMatchObject({ code: 'image_unreadable' })
  await expect(read('s3://bucket/a.jpg')).rejects.toMatchObject({ code: 'image_url_invalid' })
  await expect(read('data:image/png;base64,?')).rejects.toMatchObject({ code: 'image_url_invalid' })
  await expect(read('data:text/plain,hello')).rejects.toMatchObject({ code: 'image_url_invalid' })
})
