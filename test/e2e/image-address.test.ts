import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { drawPictures, type Picture } from './pictures.ts'
import { completedOf, errorOf, postImage, postJson, type Service, startService } from './service.ts'
import { temporaryFolder } from './turbine.ts'

let service: Service
let picture: Picture
let images: Server
let origin: string

/** What the image server answers at each of its addresses. */
const answers: Record<string, RequestListener> = {
  '/photo': (_, response) => response.setHeader('content-type', 'image/jpeg').end(picture.jpeg),
  '/moved': (_, response) => response.writeHead(302, { location: '/photo' }).end(),
  '/circle': (_, response) => response.writeHead(302, { location: '/circle' }).end(),
  '/to-file': (_, response) => response.writeHead(302, { location: 'file:///etc/hostname' }).end(),
  '/gone': (_, response) => response.writeHead(404).end(),
  '/page': (_, response) => response.setHeader('content-type', 'text/html').end('<html>'),
  '/empty': (_, response) => response.setHeader('content-type', 'image/jpeg').end(),
  '/large': (_, response) => {
    response.writeHead(200, { 'content-type': 'image/jpeg', 'content-length': 2 ** 40 }).write(picture.jpeg)
  },
  '/endless': (_, response) => {
    const fill = () => {
      while (!response.destroyed && response.write(new Uint8Array(1024 * 1024)));
    }
    response.setHeader('content-type', 'image/jpeg').on('drain', fill)
    fill()
  },
  '/slow': (_, response) => {
    response.setHeader('content-type', 'image/jpeg').write(picture.jpeg.subarray(0, 100))
  },
}

beforeAll(async () => {
  const start = startService({
    dataDir: await temporaryFolder(),
    args: ['--allow-private-urls', '--image-timeout-ms', '2000'],
  })
  images = createServer((request, response) => answers[request.url!]!(request, response))
  images.listen(0, '127.0.0.1')
  await once(images, 'listening')
  origin = `http://127.0.0.1:${(images.address() as AddressInfo).port}`
  picture = (await drawPictures(1))[0]!
  service = await start
})
afterAll(() => {
  images.close()
  images.closeAllConnections()
})

test.each(['/photo', '/moved'])('the image at %s gets the caption that its bytes get', async (path) => {
  const { caption } = await completedOf(await postImage(service, picture.jpeg))
  const response = await postJson(service, { image_url: origin + path })
  expect(await completedOf(response)).toMatchObject({ caption })
})

test.each([
  ['/circle', 'image_url_redirects', /redirects/],
  ['/to-file', 'image_url_invalid', /file/],
  ['/gone', 'image_not_found', /404/],
  ['/page', 'image_url_content_type', /text\/html/],
  ['/empty', 'image_invalid', /empty/],
  ['/large', 'image_url_too_large', /20971520/],
  ['/endless', 'image_url_too_large', /20971520/],
  ['/slow', 'image_url_timeout', /2000 ms/],
])('the image at %s is refused with %s', async (path, code, message) => {
  const response = await postJson(service, { image_url: origin + path })
  expect(response.status).toBe(400)
  const error = await errorOf(response)
  expect(error).toMatchObject({ code, param: 'image_url' })
  expect(error.message).toMatch(message)
})

test('an address that nobody answers at is named as such', async () => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  closed.close()
  await once(closed, 'close')
  const response = await postJson(service, { image_url: `http://127.0.0.1:${port}/photo` })
  expect([response.status, (await errorOf(response)).code]).toEqual([400, 'image_url_unreachable'])
})
