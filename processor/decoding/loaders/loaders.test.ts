import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import { defaultImageLimits } from '../../../edge/contract/image.ts'
import { loadConfig } from '../../../infra/config.ts'
import { imageSourceOf } from '../../../infra/fetch/image-source.ts'
import { openDirectoryStore } from '../../../infra/store/directory.ts'
import { startS3TestServer } from '../../../infra/store/s3-server.fixture.ts'
import { preprocess } from '../../engine/preprocess.ts'
import type { PictureRule, PictureShape } from '../../models/pictures.ts'
import { pictureBytes } from '../../models/pictures.ts'
import { DecoderPool, planDecoders } from '../decoder-pool.ts'
import { flatAvif, noise } from '../hostile.fixture.ts'
import { LoadedImage } from './loaded-image.ts'
import { Loaders, type LoadersOptions } from './loaders.ts'

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close()
})

/** Threads take a while to start where other work has the cores. */
const eventually = <T>(value: () => T) => expect.poll(value, { timeout: 20_000 })

const { signal } = new AbortController()
const granted = (uri: string) => {
  const [, bucket, key] = /^s3:\/\/([^/]+)\/(.*)$/.exec(uri)!
  return { bucket: bucket!, key: key! }
}
const ask = { signal, granted }
const rule: PictureRule = { kind: 'squash', width: 96, height: 96, resample: 'bicubic' }
const png = await noise().png().toBuffer()

function open({ env = {}, ...options }: Partial<LoadersOptions> & { env?: Record<string, string> } = {}) {
  const { config } = loadConfig({ env: { TURBINE_ALLOW_PRIVATE_URLS: 'on', ...env } })
  const threads: Worker[] = []
  const read: number[] = []
  const crashes: Error[] = []
  const loaders = new Loaders({
    size: 2,
    settings: { config, version: 'test', maxBytes: 2e6, limits: defaultImageLimits, readsFiles: true },
    hasBuckets: true,
    onRead: (bytes) => read.push(bytes),
    onCrash: (error) => crashes.push(error),
    pause: async () => {},
    spawn(settings, name) {
      const thread = new Worker(new URL('./loader-thread.ts', import.meta.url), {
        workerData: settings,
        name,
      })
      threads.push(thread)
      return thread
    },
    ...options,
  })
  opened.push(loaders)
  const imageAt = imageSourceOf(loaders.reader, { allowPrivate: true })
  return { loaders, imageAt, threads, read, crashes }
}

async function serve(handle: Parameters<typeof createServer>[1]): Promise<string> {
  const server: Server = createServer(handle as never).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  opened.push({
    close() {
      server.closeAllConnections()
      server.close()
    },
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'turbine-loaders-'))
  opened.push({ close: () => rm(path, { recursive: true }) })
  return path
}

function poolOf(loaders: Loaders, timeoutMs = 10_000) {
  const budget = planDecoders(2, 64 * 1024 ** 3, 360_000_000)
  const pool = new DecoderPool({ budget, timeoutMs, spawn: (options) => loaders.startDecoder(options) })
  opened.push(pool)
  return pool
}

describe('Loaders', () => {
  it('read images from wherever they are, into memory that threads share', async () => {
    const dataDir = await folder()
    const s3 = await startS3TestServer()
    opened.push(s3)
    s3.objects.set('a/b.png', png)
    const file = join(dataDir, 'photo.png')
    await writeFile(file, png)
    const url = await serve((request, response) => {
      if (request.url === '/moved') response.writeHead(302, { location: '/photo.png' }).end()
      else response.end(png)
    })
    const { endpoint, accessKeyId, secretAccessKey } = s3.options
    const { imageAt, loaders, read } = open({
      env: {
        S3_ENDPOINT: endpoint!,
        AWS_ACCESS_KEY_ID: accessKeyId!,
        AWS_SECRET_ACCESS_KEY: secretAccessKey!,
      },
    })
    const data = `data:image/png;base64,${png.toString('base64')}`
    for (const address of [file, data, `${url}/moved`, 's3://photos/a/b.png']) {
      const image = (await imageAt(address, ask)) as LoadedImage
      expect(image).toBeInstanceOf(LoadedImage)
      expect(image.buffer).toBeInstanceOf(SharedArrayBuffer)
      expect(Buffer.compare(image, png)).toBe(0)
      expect(image.head).toMatchObject({ size: { width: 64, height: 48 }, work: { scans: 1 } })
      image.release()
    }
    expect(read).toEqual(Array(4).fill(png.length))
    // The own store is a bucket there.
    expect(await loaders.stored('a/b.png', { signal })).toMatchObject({ length: png.length })
    expect(await loaders.stored('gone', { signal })).toBeUndefined()
  })

  it('read what is kept on one machine', async () => {
    const dataDir = await folder()
    const store = await openDirectoryStore(join(dataDir, 'store'))
    await store.put('images/a', png)
    const { loaders } = open({ env: { TURBINE_DATA_DIR: dataDir } })
    expect(Buffer.compare((await loaders.stored('images/a', { signal }))!, png)).toBe(0)
    expect(await loaders.stored('images/b', { signal })).toBeUndefined()
  })

  it('pass on errors as they are, and what is refused by a header', async () => {
    const url = await serve((request, response) => {
      if (request.url === '/429') response.writeHead(429, { 'retry-after': '7' }).end()
      else response.setHeader('content-type', 'text/html').end('<html>')
    })
    const { imageAt } = open()
    await expect(imageAt(`${url}/429`, ask)).rejects.toMatchObject({
      ...{ code: 'image_host_rate_limited', retryAfterSeconds: 7, retriable: true },
      lesson: { kind: 'less', afterMs: 7000 },
    })
    await expect(imageAt(`${url}/page`, ask)).rejects.toMatchObject({ code: 'image_url_content_type' })
    await expect(imageAt('/no/such/file.png', ask)).rejects.toMatchObject({ code: 'image_not_found' })
    const text = (await imageAt('data:,hello', ask)) as LoadedImage
    expect(text.head.refusal).toMatchObject({ code: 'image_invalid', status: 415, param: 'image_url' })
  })

  it('keep out of private networks, whoever asks them to go there', async () => {
    const url = await serve((_, response) => response.end(png))
    const { loaders } = open({ env: { TURBINE_ALLOW_PRIVATE_URLS: 'off' } })
    for (const address of [url, url.replace('127.0.0.1', '[::ffff:127.0.0.1]')])
      await expect(loaders.reader.web(new URL(address), { signal })).rejects.toMatchObject({
        code: 'image_url_private',
      })
  })

  it('wait for memory before they read what is larger than usual', async () => {
    const large = Buffer.concat([png, Buffer.alloc(900_000)])
    const url = await serve((_, response) => response.setHeader('content-length', large.length).end(large))
    const { imageAt } = open()
    const asked: number[] = []
    const more = Promise.withResolvers<void>()
    const room = async (bytes: number) => {
      if (asked.push(bytes) === 2) await more.promise
    }
    let done = false
    const reading = imageAt(url, { ...ask, room }).then((image) => {
      done = true
      return image
    })
    await eventually(() => asked).toEqual([512 * 1024, large.length])
    expect(done).toBe(false)
    more.resolve()
    expect(await reading).toHaveLength(large.length)
    const refused = imageAt(url, {
      ...ask,
      room: async (bytes) => {
        if (bytes > 600_000) throw new Error('no room')
      },
    })
    await expect(refused).rejects.toThrow('no room')
  })

  it('end a read whose caller has left', async () => {
    const closed = Promise.withResolvers<void>()
    const came = Promise.withResolvers<void>()
    const url = await serve((request) => {
      request.socket.once('close', () => closed.resolve())
      came.resolve()
    })
    const { imageAt, loaders } = open()
    const leaving = new AbortController()
    const reading = imageAt(url, { ...ask, signal: leaving.signal })
    await came.promise
    leaving.abort(new Error('left'))
    await expect(reading).rejects.toThrow('left')
    await closed.promise
    expect(loaders.reading).toBe(0)
  })

  it('have decoders, which give what this process gives', async () => {
    const { loaders, imageAt } = open()
    const pool = poolOf(loaders)
    const rules: PictureRule[] = [
      rule,
      { kind: 'tiles', longestEdge: 192, tile: 64, split: true, resample: 'lanczos3' },
      { kind: 'patches', patch: 8, merge: 2, minPixels: 1024, maxPixels: 90_000, resample: 'bicubic' },
    ]
    const files = [png, await noise(300, 200).jpeg().withMetadata({ orientation: 6 }).toBuffer()]
    for (const each of rules)
      for (const file of files)
        for (const image of [
          new Uint8Array(file),
          await imageAt(`data:;base64,${file.toString('base64')}`, ask),
        ]) {
          let there = new Uint8Array(new SharedArrayBuffer(0))
          const target = (shape: PictureShape) => {
            const bytes = pictureBytes(each, shape)
            if (there.length < bytes) there = new Uint8Array(new SharedArrayBuffer(bytes))
            return there.subarray(0, bytes)
          }
          const { shape, width, cpuMs } = await pool.decode({ image, rule: each, target, lane: 'batch' })
          const here = new Uint8Array(pictureBytes(each, shape))
          expect(await preprocess(file, each, here)).toMatchObject({ shape, width })
          expect(Buffer.compare(here, there.subarray(0, here.length))).toBe(0)
          expect(cpuMs).toBeGreaterThan(0)
        }
  })

  it('have decoders that end for what takes too much, and pass on what they refuse', async () => {
    const { loaders } = open()
    const pool = poolOf(loaders, 250)
    const target = new Uint8Array(new SharedArrayBuffer(96 * 96 * 3)).fill(9)
    const decode = (image: Uint8Array) => pool.decode({ image, rule, target, lane: 'interactive' })
    await expect(decode(await flatAvif(3300))).rejects.toMatchObject({ code: 'image_too_complex' })
    await expect(decode(png.subarray(0, png.length >> 1))).rejects.toMatchObject({ code: 'image_invalid' })
    expect(target.every((value) => value === 9)).toBe(true)
    await decode(png)
    expect(target.every((value) => value === 9)).toBe(false)
  })

  it('do what a thread that died was doing once more, in another one, and start it again', async () => {
    const waiting: (() => void)[] = []
    const url = await serve((_, response) => void waiting.push(() => response.end(png)))
    const { imageAt, threads, crashes } = open()
    const rooms: number[] = []
    const reading = imageAt(url, { ...ask, room: async (bytes) => void rooms.push(bytes) })
    await eventually(() => waiting.length).toBe(1)
    await threads[0]!.terminate()
    await eventually(() => waiting.length).toBe(2)
    waiting[1]!()
    expect(await reading).toHaveLength(png.length)
    expect(crashes).toHaveLength(1)
    expect(threads).toHaveLength(3)
    expect(rooms[0]).toBe(512 * 1024)
  })

  it('give up what two of their threads died of', async () => {
    const waiting: unknown[] = []
    const url = await serve((_, response) => void waiting.push(response))
    const { loaders, imageAt, threads } = open({ size: 1 })
    const twice = imageAt(url, ask)
    void twice.catch(() => {})
    for (const times of [1, 2]) {
      await eventually(() => waiting.length).toBe(times)
      await threads.at(-1)!.terminate()
    }
    await expect(twice).rejects.toMatchObject({ name: 'LoaderLostError', retriable: true })
    await eventually(() => threads.length).toBe(3)
    const decoding = poolOf(loaders).decode({
      ...{ image: png, rule, lane: 'batch' },
      target: new Uint8Array(new SharedArrayBuffer(96 * 96 * 3)),
    })
    await expect(decoding).resolves.toMatchObject({ width: 64 })
  })

  it('give an image whose loader died to a decoder of another one', async () => {
    const { loaders, threads } = open()
    const pool = poolOf(loaders)
    const target = new Uint8Array(new SharedArrayBuffer(96 * 96 * 3))
    const decode = (image: Uint8Array) => pool.decode({ image, rule, target, lane: 'batch' })
    await decode(png)
    const decoding = decode(await flatAvif(1500))
    await new Promise((resolve) => setTimeout(resolve, 20))
    await threads[0]!.terminate()
    await expect(decoding).resolves.toMatchObject({ width: 1500 })
  })

  it('end with all that they have started', async () => {
    const came = Promise.withResolvers<void>()
    const url = await serve(() => came.resolve())
    const { loaders, imageAt, threads } = open()
    const reading = imageAt(url, ask).catch((error: Error) => error)
    await came.promise
    await Promise.all([loaders.close(), reading])
    expect(threads.map(({ threadId }) => threadId)).toEqual([-1, -1])
  })
})
