import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'
import { captionSchema } from '../../edge/contract/caption.ts'
import { modelListSchema } from '../../edge/contract/model.ts'
import { drawPictures, type Picture } from './pictures.ts'
import {
  captionOf,
  completedOf,
  finished,
  getCaption,
  metric,
  postAsync,
  postImage,
  postJson,
  type Service,
  startService,
} from './service.ts'
import { temporaryFolder } from './turbine.ts'

const run = promisify(execFile)

/** The working folder that the service was started in. */
let folder: string
let service: Service
let picture: Picture

beforeAll(async () => {
  folder = await temporaryFolder()
  service = await startService({ cwd: folder, dataDir: 'd' })
  picture = (await drawPictures(1))[0]!
})

const dataUrl = (jpeg: Uint8Array) => `data:image/jpeg;base64,${Buffer.from(jpeg).toString('base64')}`

test('the greeting says where it is, what the bundled picture shows, and a line that works in a shell', async () => {
  const { stdout } = service.turbine
  const [, shown] = /shows "([^"]+)"/.exec(stdout)!
  const [line] = /curl --data-binary @.*$/m.exec(stdout)!
  const answer = await run('sh', ['-c', `${line} --silent --show-error`], { cwd: folder })
  expect(JSON.parse(answer.stdout)).toMatchObject({ status: 'completed', caption: shown })
})

test('raw bytes and a data: URL get the same caption, with the pruning it got', async () => {
  const raw = await completedOf(await postImage(service, picture.jpeg))
  const json = await completedOf(await postJson(service, { image_url: dataUrl(picture.jpeg) }))
  expect(captionSchema.parse(raw)).toEqual(raw)
  expect(raw.turbine).toMatchObject({ prune_level: 0, prune_ratio: 0 })
  expect(raw.turbine.tokens_out).toBe(raw.turbine.tokens_in)
  expect(raw.caption).toMatch(/^a (small|large) /)
  expect(json.caption).toBe(raw.caption)
  expect(json.id).not.toBe(raw.id)
})

test('a prompt is continued, whichever way it comes', async () => {
  const prompt = 'a picture of'
  const raw = await completedOf(await postImage(service, picture.jpeg, { query: { prompt } }))
  const json = await completedOf(await postJson(service, { image_url: dataUrl(picture.jpeg), prompt }))
  expect(raw.caption).toMatch(/^a picture of ./)
  expect(json.caption).toBe(raw.caption)
})

test('images beside it with other prompts do not change a caption', async () => {
  const ask = (prompt: string) => postImage(service, picture.jpeg, { query: prompt ? { prompt } : {} })
  const prompts = ['', 'a', 'a picture of', 'a large', '']
  const alone = []
  for (const prompt of prompts) alone.push((await completedOf(await ask(prompt))).caption)
  const together = await Promise.all(prompts.map(async (prompt) => completedOf(await ask(prompt))))
  expect(together.map(({ caption }) => caption)).toEqual(alone)
})

test('respond-async is an address at once, and the caption lies behind it', async () => {
  const ask = () => postImage(service, picture.jpeg, { headers: { prefer: 'respond-async' } })
  // The first ones can be done before their address is written down; then they are answered right away.
  const responses = await Promise.all(Array.from({ length: 8 }, ask))
  const response = responses.find(({ status }) => status === 202)!
  const queued = await captionOf(response)
  expect(queued.status).toBe('queued')
  expect(response.headers.get('preference-applied')).toBe('respond-async')
  expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(response.headers.get('location')).toBe(`/v1/captions/${queued.id}`)
  const result = await completedOf(await finished(service, queued.id))
  const { caption } = await completedOf(await postImage(service, picture.jpeg))
  expect(result).toMatchObject({ id: queued.id, created: queued.created, caption })
})

test('an answer that is not there at the deadline comes later', async () => {
  const response = await postImage(service, picture.jpeg, { query: { deadline_ms: 1 } })
  expect(response.status).toBe(202)
  const { id } = await captionOf(response)
  expect((await completedOf(await finished(service, id))).caption).toMatch(/^a /)
})

test('an image that is too large for a record of the stream is captioned like any other', async () => {
  const large = new Uint8Array(1024 * 1024)
  large.set(picture.jpeg)
  const { caption } = await completedOf(await postImage(service, picture.jpeg))
  expect(await completedOf(await postImage(service, large))).toMatchObject({ caption })
  const id = await postAsync(service, large)
  expect(await completedOf(await finished(service, id))).toMatchObject({ caption })
})

test('a result stays the same however often it is fetched', async () => {
  const completed = await completedOf(await postImage(service, picture.jpeg))
  for (const _ of [1, 2]) expect(await (await getCaption(service, completed.id)).json()).toEqual(completed)
})

test('a caller who goes away harms nobody', async () => {
  const before = await metric(service, 'turbine_images_total')
  const leaving = Array.from({ length: 8 }, async () => {
    const signal = AbortSignal.timeout(5)
    await fetch(`${service.url}/v1/captions`, {
      method: 'POST',
      body: picture.jpeg,
      headers: { 'content-type': 'image/jpeg' },
      signal,
    }).catch(() => {})
  })
  await Promise.all(leaving)
  const { caption } = await completedOf(await postImage(service, picture.jpeg))
  expect(caption).toMatch(/^a /)
  expect(await metric(service, 'turbine_images_total')).toBeGreaterThan(before)
})

test('health, models, metrics and the document are there', async () => {
  const json = async (path: string) => (await fetch(`${service.url}${path}`)).json()
  expect(await json('/health/live')).toEqual({ status: 'ok' })
  expect(await json('/health/ready')).toMatchObject({ ready: true })
  const { data } = modelListSchema.parse(await json('/v1/models'))
  expect(data).toHaveLength(1)
  expect(data[0]!.turbine.prune_levels.length).toBeGreaterThanOrEqual(5)
  expect(data[0]!.turbine.prune_levels[0]).toMatchObject({ level: 0, prune_ratio: 0 })
  const { turbine } = await completedOf(
    await postImage(service, picture.jpeg, { query: { model: data[0]!.id } }),
  )
  expect(turbine.model).toBe(data[0]!.id)
  expect(await json('/openapi.json')).toMatchObject({
    openapi: expect.stringMatching(/^3\.1/),
    paths: { '/v1/captions': { post: {} }, '/v1/captions/{id}': { get: {} }, '/metrics': {} },
  })
})

test('metrics count every caption once', async () => {
  const before = await metric(service, 'turbine_images_total')
  await Promise.all([1, 2, 3].map(async () => completedOf(await postImage(service, picture.jpeg))))
  expect(await metric(service, 'turbine_images_total')).toBe(before + 3)
  expect(await metric(service, 'turbine_queue_images')).toBe(0)
})

test('standard output is the greeting alone, and the log is JSON lines', async () => {
  expect(service.turbine.stdout.split('\n')).toHaveLength(4)
  for (const line of service.turbine.stderr.trim().split('\n'))
    expect(JSON.parse(line)).toMatchObject({ level: 'info', msg: expect.any(String) })
})
