import { Readable } from 'node:stream'
import { Agent, request } from 'undici'
import { beforeAll, expect, test } from 'vitest'
import { maxBodyBytes } from '../../edge/contract/caption.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  type AskOptions,
  captionOf,
  completedOf,
  errorOf,
  finished,
  getCaption,
  postImage,
  postJson,
  type Service,
  startService,
} from './service.ts'
import { temporaryFolder } from './turbine.ts'

let service: Service
let pictures: Picture[]

beforeAll(async () => {
  service = await startService({ dataDir: await temporaryFolder() })
  pictures = await drawPictures(6)
})

const jpeg = () => pictures[0]!.jpeg
const png = () => pictures[0]!.png
const text = (content: string) => new TextEncoder().encode(content)

function corrupt(file: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return file.slice().fill(7, file.length / 2, file.length / 2 + 200)
}

/** A small file whose header announces 60,000 x 60,000 pixels. */
function pixelBomb(): Uint8Array<ArrayBuffer> {
  const file = png().slice()
  const header = new DataView(file.buffer)
  header.setUint32(16, 60_000)
  header.setUint32(20, 60_000)
  return file
}

function tooManyBytes(): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(maxBodyBytes + 1)
  file.set(jpeg())
  return file
}

type ImageCase = [
  what: string,
  image: () => Uint8Array<ArrayBuffer>,
  status: number,
  code: string,
  ask?: AskOptions,
]

test.each<ImageCase>([
  ['an empty body', () => text(''), 400, 'image_invalid'],
  ['a truncated JPEG', () => jpeg().slice(0, jpeg().length / 2), 400, 'image_invalid'],
  ['a truncated PNG', () => png().slice(0, png().length / 2), 400, 'image_invalid'],
  ['a corrupt PNG', () => corrupt(png()), 400, 'image_invalid'],
  ['a header alone', () => jpeg().slice(0, 20), 400, 'image_invalid'],
  ['text', () => text('hello'), 415, 'image_invalid'],
  ['an SVG drawing', () => text('<svg xmlns="http://www.w3.org/2000/svg"/>'), 415, 'image_invalid'],
  [
    'a wrong content type',
    jpeg,
    415,
    'content_type_unsupported',
    { headers: { 'content-type': 'text/plain' } },
  ],
  ['3,600 megapixels', pixelBomb, 413, 'image_too_large'],
  ['more than 20 MB', tooManyBytes, 413, 'body_too_large'],
  ['an unknown model', jpeg, 404, 'model_not_found', { query: { model: 'other' } }],
  ['an unknown option', jpeg, 400, 'unknown_parameter', { query: { maxprune: 1 } }],
  ['text for a number', jpeg, 400, 'invalid_type', { query: { max_prune: 'much' } }],
  ['max_prune out of range', jpeg, 400, 'invalid_value', { query: { max_prune: 1.5 } }],
  ['a deadline in the past', jpeg, 400, 'invalid_value', { query: { deadline_ms: -1 } }],
  ['a prompt of too many tokens', jpeg, 400, 'prompt_too_long', { query: { prompt: 'a '.repeat(90) } }],
])('%s is refused by name', async (_, image, status, code, ask) => {
  const response = await postImage(service, image(), ask)
  const error = await errorOf(response)
  expect([response.status, error.code]).toEqual([status, code])
  expect(error.message).toMatch(/^[A-Z"].{20,}\.$/)
  if (ask?.query) {
    const [[name, value]] = Object.entries(ask.query) as [[string, string | number]]
    expect(error.param).toBe(name)
    if (name === 'max_prune')
      expect(error.message).toBe(`"max_prune" must be a number from 0 to 1, got "${value}".`)
  }
})

test('a body without a length is refused as soon as it is too large', async () => {
  // On a connection of its own, since the service closes it with part of the body unread.
  const dispatcher = new Agent()
  const response = await request(`${service.url}/v1/captions`, {
    method: 'POST',
    body: Readable.from([tooManyBytes()]),
    headers: { 'content-type': 'image/jpeg' },
    dispatcher,
  })
  expect(response.statusCode).toBe(413)
  expect(await response.body.json()).toMatchObject({ error: { code: 'body_too_large' } })
  await dispatcher.destroy()
})

test.each([
  [{}, 'missing_required_parameter', 'image_url'],
  [[], 'invalid_type', null],
  [{ image_url: 7 }, 'invalid_type', 'image_url'],
  [{ image_url: 'data:,', colour: 'red' }, 'unknown_parameter', 'colour'],
  [{ image_url: 'data:,', turbine: { max_prune: '1' } }, 'invalid_type', 'turbine.max_prune'],
  [{ image_url: 'data:,', turbine: { max_prune: 2 } }, 'invalid_value', 'turbine.max_prune'],
  [{ image_url: 'data:,', turbine: { deadline_ms: 0.5 } }, 'invalid_type', 'turbine.deadline_ms'],
  [{ image_url: 'data:,', turbine: { level: 2 } }, 'unknown_parameter', 'turbine.level'],
  [{ image_url: 'data:image/png;base64,@@@' }, 'image_url_invalid', 'image_url'],
  [{ image_url: 'file:///etc/hostname' }, 'image_url_invalid', 'image_url'],
  [{ image_url: 'http://10.0.0.1/photo.jpg' }, 'image_url_private', 'image_url'],
  [{ image_url: 'https://127.0.0.1/photo.jpg' }, 'image_url_private', 'image_url'],
  [{ image_url: 'https://localhost/photo.jpg' }, 'image_url_private', 'image_url'],
  [{ image_url: 'https://2130706433/photo.jpg' }, 'image_url_private', 'image_url'],
  [{ image_url: 'https://[::ffff:10.0.0.1]/photo.jpg' }, 'image_url_private', 'image_url'],
  [{ image_url: 'https://169.254.169.254/latest/meta-data' }, 'image_url_private', 'image_url'],
])('the request %j is refused by name', async (request, code, param) => {
  const response = await postJson(service, request)
  expect(response.status).toBe(400)
  expect(await errorOf(response)).toMatchObject({ code, param, type: 'invalid_request_error' })
})

test('what is no JSON is refused', async () => {
  const headers = { 'content-type': 'application/json' }
  const response = await postImage(service, text('{"image_url": '), { headers })
  expect([response.status, (await errorOf(response)).code]).toEqual([400, 'invalid_json'])
})

test('what is not there is 404, and a wrong method 405', async () => {
  const unknown = await getCaption(service, 'cap_nobody')
  expect([unknown.status, (await errorOf(unknown)).code]).toEqual([404, 'caption_not_found'])
  const outside = await getCaption(service, '..%2F..%2Fstream.db')
  expect([outside.status, (await errorOf(outside)).code]).toEqual([404, 'caption_not_found'])
  const nowhere = await fetch(`${service.url}/v2/captions`)
  expect([nowhere.status, (await errorOf(nowhere)).code]).toEqual([404, 'route_not_found'])
  const method = await fetch(`${service.url}/v1/captions`, { method: 'DELETE' })
  expect([method.status, method.headers.get('allow')]).toEqual([405, 'POST'])
})

test('bad images leave the good ones beside them untouched', async () => {
  const alone = []
  for (const { jpeg } of pictures) alone.push((await completedOf(await postImage(service, jpeg))).caption)
  const bad = [corrupt(png()), jpeg().slice(0, 900), pixelBomb(), text('no image')]
  const together = await Promise.all(
    pictures.map(async ({ jpeg }, i) => {
      const spoiler = postImage(service, bad[i % bad.length]!)
      const { caption } = await completedOf(await postImage(service, jpeg))
      return { caption, spoiled: (await spoiler).status }
    }),
  )
  expect(together.map(({ caption }) => caption)).toEqual(alone)
  for (const { spoiled } of together) expect(spoiled).toBeGreaterThanOrEqual(400)
})

test('a bad image that nobody waits for keeps its error', async () => {
  const posted = await postImage(service, corrupt(png()), { headers: { prefer: 'respond-async' } })
  // An error that is quicker than the queued mark is answered right away.
  const result = posted.status === 202 ? await finished(service, (await captionOf(posted)).id) : posted
  expect([result.status, (await errorOf(result)).code]).toEqual([400, 'image_invalid'])
})

test('the service runs on as if nothing had come', async () => {
  expect((await completedOf(await postImage(service, jpeg()))).caption).toMatch(/^a /)
  expect(service.turbine.stderr).not.toMatch(/"level":"(warn|error|fatal)"/)
})
