import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { drawPictures, type Picture } from './pictures.ts'
import { completedOf, errorOf, postImage, postJson, type Service, startService } from './service.ts'
import { temporaryFolder } from './turbine.ts'

let service: Service
let picture: Picture
const images: Server[] = []
let origin: string

let asked = 0

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
  '/busy': (_, response) => response.writeHead(429, { 'retry-after': '7' }).end(),
  '/down': (_, response) => response.writeHead(503, { 'retry-after': '7' }).end(),
  '/once-busy': (_, response) => {
    if (asked++ === 0) response.writeHead(503, { 'retry-after': '0' }).end()
    else response.end(picture.jpeg)
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
  origin = await anotherHost()
  picture = (await drawPictures(1))[0]!
  service = await start
})
afterAll(() => {
  for (const each of images) {
    each.close()
    each.closeAllConnections()
  }
})

/** One that the service knows nothing of. */
async function anotherHost(): Promise<string> {
  const server = createServer((request, response) => answers[request.url!]!(request, response))
  images.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test.each(['/photo', '/moved'])('the image at %s gets the caption that its bytes get', async (path) => {
  const { caption } = await completedOf(await postImage(service, picture.jpeg))
  const response = await postJson(service, { image_url: origin + path })
  expect(await completedOf(response)).toMatchObject({ caption })
})

test.each([
  ['/circle', 'image_url_redirects', /redirects/],
  ['/to-file', 'image_url_invalid', /file/],
  ['/gone', 'image_not_found', /404/],
  ['/page', 'image_url_content_type', /web page/],
  ['/empty', 'image_invalid', /empty/],
  ['/large', 'image_url_too_large', /20971520/],
  ['/endless', 'image_url_too_large', /20971520/],
])('the image at %s is refused with %s', async (path, code, message) => {
  const response = await postJson(service, { image_url: origin + path })
  expect(response.status).toBe(400)
  const error = await errorOf(response)
  expect(error).toMatchObject({ code, param: 'image_url' })
  expect(error.message).toMatch(message)
})

test.each([
  ['/slow', 503, 'image_url_timeout', '5'],
  ['/busy', 429, 'image_host_rate_limited', '7'],
  ['/down', 503, 'image_url_status', '7'],
])('the host of %s may give it later, which its caller is told', async (path, status, code, retryAfter) => {
  const response = await postJson(service, { image_url: (await anotherHost()) + path })
  expect([response.status, response.headers.get('retry-after')]).toEqual([status, retryAfter])
  expect(await errorOf(response)).toMatchObject({ code, param: 'image_url' })
})

test('a host that asks for a moment gets it, and its caller the caption', async () => {
  const response = await postJson(service, { image_url: `${await anotherHost()}/once-busy` })
  expect(await completedOf(response)).toHaveProperty('caption')
})

test('an address that nobody answers at is named as such', async () => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  closed.close()
  await once(closed, 'close')
  const response = await postJson(service, { image_url: `http://127.0.0.1:${port}/photo` })
  expect([response.status, (await errorOf(response)).code]).toEqual([503, 'image_url_unreachable'])
})
