import { expect, test } from 'vitest'
import { createImageSource } from '../../../infra/fetch/image-source.ts'
import { createImageReader } from './read-image.ts'

const readImage = createImageReader(
  createImageSource({
    maxBytes: 1000,
    fetch: async (url) => new Response(`fetched ${url}`, { headers: { 'content-type': 'image/png' } }),
    readFile: async (path) => Buffer.from(`read ${path}`),
  }),
)
const read = async (location: string) => Buffer.from(await readImage(location)).toString()

test('paths, data: URLs and addresses give bytes', async () => {
  expect(await read('photos/a.jpg')).toBe('read photos/a.jpg')
  expect(await read(`data:image/png;base64,${Buffer.from('inline').toString('base64')}`)).toBe('inline')
  expect(await read('https://example.com/a.jpg')).toBe('fetched https://example.com/a.jpg')
})

test('S3 is not read', async () => {
  await expect(read('s3://bucket/a.jpg')).rejects.toMatchObject({ code: 's3_unavailable', status: 400 })
})
