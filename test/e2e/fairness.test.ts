import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { drawPictures, type Picture } from './pictures.ts'
import { type Service, startService } from './service.ts'
import { startTurbine, temporaryFolder } from './turbine.ts'

/** Accepts every connection, at every address of loopback, and never answers. */
let silent: Server
const sockets = new Set<Socket>()
let port: number
let service: Service
let picture: Picture
const keys: Record<string, string> = {}

beforeAll(async () => {
  silent = createServer((socket) => {
    sockets.add(socket.on('error', () => {}).on('close', () => sockets.delete(socket)))
  }).listen(0)
  await once(silent, 'listening')
  port = (silent.address() as AddressInfo).port
  picture = (await drawPictures(1))[0]!
  const dataDir = await temporaryFolder()
  for (const tenant of ['hostile', 'honest']) {
    const command = startTurbine(['keys', 'create', '--tenant', tenant], {
      env: { TURBINE_DATA_DIR: dataDir },
    })
    await command.exited
    keys[tenant] = /sk-turbine-[\w-]+/.exec(command.stdout)![0]
  }
  service = await startService({ dataDir, args: ['--allow-private-urls'] })
})
afterAll(() => {
  silent.close()
  for (const socket of sockets) socket.destroy()
})

const clientOf = (tenant: string) =>
  new OpenAI({ baseURL: `${service.url}/v1`, apiKey: keys[tenant], maxRetries: 0 })

async function submit(openai: OpenAI, urls: string[]): Promise<string> {
  const lines = urls.map((image_url) => JSON.stringify({ image_url }))
  const file = await openai.files.create({
    purpose: 'batch',
    file: await toFile(Buffer.from(lines.join('\n')), 'work.jsonl'),
  })
  const { id } = await openai.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
    completion_window: '24h',
  })
  return id
}

const post = (tenant: string, image_url: string, signal?: AbortSignal) =>
  fetch(`${service.url}/v1/captions`, {
    method: 'POST',
    body: JSON.stringify({ image_url }),
    headers: { 'content-type': 'application/json', authorization: `Bearer ${keys[tenant]}` },
    signal,
  })

/** Each at a host of its own. */
const silentUrls = (count: number) =>
  Array.from({ length: count }, (_, i) => `http://127.1.${i >> 8}.${i & 255}:${port}/${i}.jpg`)

test('a tenant whose images never come keeps nobody waiting', { timeout: 60_000 }, async () => {
  const hostile = await submit(clientOf('hostile'), silentUrls(4000))
  const leaving = new AbortController()
  const posts = silentUrls(200).map((url) => post('hostile', url, leaving.signal).catch(() => {}))
  await expect.poll(() => sockets.size, { timeout: 15_000 }).toBeGreaterThan(100)
  // All that the places of one tenant allow: twice those at one host, in batches and in requests.
  await delay(1000)
  expect(sockets.size).toBeLessThanOrEqual(2 * 2 * 64)

  const image = `data:image/jpeg;base64,${Buffer.from(picture.jpeg).toString('base64')}`
  const openai = clientOf('honest')
  const id = await submit(openai, Array<string>(10).fill(image))
  let batch = await openai.batches.retrieve(id)
  while (batch.status !== 'completed') {
    await delay(100)
    batch = await openai.batches.retrieve(id)
  }
  expect(batch.request_counts).toMatchObject({ completed: 10, failed: 0 })
  expect((await post('honest', image)).status).toBe(200)
  // Nothing of the others was done with meanwhile: their first tries are not over.
  expect((await clientOf('hostile').batches.retrieve(hostile)).request_counts).toMatchObject({ completed: 0 })
  leaving.abort()
  await Promise.all(posts)
})
