import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type OpenAI from 'openai'
import { toFile } from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { getBytes } from '../../infra/store/store.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { canStartS3 } from '../servers/s3.ts'
import { type Fleet, linesOf, type Part, startFleet, until } from './fleet.ts'

type Batch = OpenAI.Batch & { turbine: { prune_ratio_mean: number | null } }

interface ResultLine {
  custom_id: string
  response: {
    status_code: number
    body: { choices: [{ message: { content: string } }]; error?: { code: string } }
  } | null
  error: { code: string; message: string; line?: number } | null
}

const isOver = ({ status }: OpenAI.Batch) => /^(completed|failed|expired|cancelled)$/.test(status)

describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('batches through Worker, Kafka and S3', () => {
  let fleet: Fleet
  let openai: OpenAI
  let processors: Part[]
  let pictures: Picture[]
  let web: { url: string; close(): void }

  beforeAll(async () => {
    ;[fleet, pictures] = await Promise.all([startFleet(), drawPictures(16)])
    web = await servePictures(pictures)
    await fleet.s3.createBucket('pictures')
    await fleet.s3.createBucket('results')
    await Promise.all(pictures.map(({ jpeg }, i) => fleet.bucket('pictures').put(`scenes/${i}.jpg`, jpeg)))
    openai = fleet.openai(await fleet.keyOf('acme'))
    await fleet.run(['tenants', 'grant', 'acme', '--read', 's3://pictures/', '--write', 's3://results/'])
    processors = await Promise.all([fleet.start('processor'), fleet.start('processor')])
    await fleet.start('planner')
  })
  afterAll(async () => {
    web?.close()
    await fleet?.dispose()
  })

  const submit = async (manifest: string, options: Partial<OpenAI.BatchCreateParams> = {}) => {
    const file = await openai.files.create({
      purpose: 'batch',
      file: await toFile(new TextEncoder().encode(manifest), 'work.jsonl'),
    })
    return openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
      ...options,
    })
  }
  const finish = (id: string) => until(async () => (await openai.batches.retrieve(id)) as Batch, isOver)
  const resultsOf = async (id: string | null | undefined) =>
    id ? linesOf<ResultLine>(await (await openai.files.content(id)).text()) : []

  test('a batch survives the kill of a processor: every line once, in order, the bad ones told apart', async () => {
    const addressOf = (i: number) => {
      const picture = i % pictures.length
      if (i % 3 === 0) return `s3://pictures/scenes/${picture}.jpg`
      if (i % 3 === 1) return `${web.url}/${picture}.jpg`
      return `data:image/jpeg;base64,${Buffer.from(pictures[picture]!.jpeg).toString('base64')}`
    }
    const line = (customId: string, url: string, target = '/v1/chat/completions') =>
      JSON.stringify({
        custom_id: customId,
        method: 'POST',
        url: target,
        body: {
          messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }],
        },
      })
    const good = Array.from({ length: 600 }, (_, i) => `scene-${i}`)
    const lines = good.map((id, i) => line(id, addressOf(i)))
    lines.splice(500, 0, line('gone', 's3://pictures/scenes/none.jpg'))
    lines.splice(400, 0, line('not-an-image', `${web.url}/text`))
    lines.splice(300, 0, line('elsewhere', addressOf(0), '/v1/embeddings'))
    lines.splice(200, 0, line('scene-7', addressOf(7)))
    lines.splice(100, 0, '{"custom_id": "torn", ')

    const batch = await submit(`${lines.join('\n')}\n`)
    expect(batch.status).toBe('validating')
    await until(
      () => openai.batches.retrieve(batch.id),
      ({ request_counts }) => request_counts!.completed > 0,
    )
    processors[0]!.turbine.kill('SIGKILL')
    const done = await finish(batch.id)

    expect(done).toMatchObject({
      status: 'completed',
      errors: null,
      request_counts: { total: 605, completed: 600, failed: 5 },
      turbine: { prune_ratio_mean: 0 },
    })
    const output = await resultsOf(done.output_file_id)
    expect(output.map(({ custom_id }) => custom_id)).toEqual(good)
    for (const { response } of output) {
      expect(response!.status_code).toBe(200)
      expect(response!.body.choices[0].message.content).not.toBe('')
    }
    const captions = new Map<number, Set<string>>()
    for (const [i, { response }] of output.entries()) {
      const picture = i % pictures.length
      const seen = captions.get(picture) ?? new Set()
      captions.set(picture, seen.add(response!.body.choices[0].message.content))
    }
    for (const [picture, seen] of captions) expect([picture, seen.size]).toEqual([picture, 1])

    const errors = await resultsOf(done.error_file_id)
    const faults = errors.map(({ custom_id, error, response }) => {
      return error ? [error.line, error.code] : [custom_id, response!.body.error!.code]
    })
    expect(faults).toEqual([
      [101, 'invalid_json_line'],
      [202, 'duplicate_custom_id'],
      [303, 'url_mismatch'],
      ['not-an-image', 'image_invalid'],
      ['gone', 'image_not_found'],
    ])
  })

  test('a prefix of a bucket is a batch, and the results lie under the caller’s own prefix', async () => {
    const batch = (await openai.batches.create({
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
      completion_window: '1h' as '24h',
      turbine: { input_uri: 's3://pictures/scenes/', output_uri: 's3://results/monday/' },
    } as unknown as OpenAI.BatchCreateParams)) as Batch
    const done = await finish(batch.id)
    expect(done).toMatchObject({
      status: 'completed',
      request_counts: { total: pictures.length, completed: pictures.length, failed: 0 },
    })
    const bytes = await getBytes(fleet.bucket('results'), `monday/${batch.id}_output.jsonl`)
    const names = linesOf<ResultLine>(new TextDecoder().decode(bytes)).map(({ custom_id }) => custom_id)
    expect(names).toEqual(pictures.map((_, i) => `${i}.jpg`).sort())
    expect((await resultsOf(done.output_file_id)).map(({ custom_id }) => custom_id)).toEqual(names)
    expect(done.error_file_id).toBeNull()
  })

  test('below a prefix without its slash pictures are known by their bytes, and the rest is counted', async () => {
    const bucket = fleet.bucket('pictures')
    const { jpeg } = pictures[0]!
    const images = ['a b+c%20.jpg', 'no-extension', 'photo.jpg?w=200', 'é.JFIF']
    for (const name of images) await bucket.put(`mixed/${name}`, jpeg)
    for (const name of ['._photo.jpg', '__MACOSX/._photo.jpg', 'notes.txt', 'README'])
      await bucket.put(`mixed/${name}`, 'text')
    const batch = (await openai.batches.create({
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
      completion_window: '1h' as '24h',
      turbine: { input_uri: 's3://pictures/mixed' },
    } as unknown as OpenAI.BatchCreateParams)) as Batch
    const done = await finish(batch.id)
    expect(done).toMatchObject({
      status: 'completed',
      request_counts: { total: images.length, completed: images.length, failed: 0 },
      turbine: { skipped: { hidden: 2, not_image: 2 } },
    })
    const names = (await resultsOf(done.output_file_id)).map(({ custom_id }) => custom_id)
    expect(names).toEqual(images)
  })

  test('a batch without a usable line fails with the reasons', async () => {
    const batch = await submit('no json\n{}\n')
    const done = await finish(batch.id)
    expect(done.status).toBe('failed')
    expect(done.errors?.data?.map(({ line }) => line)).toEqual([1, 2])
  })

  test('a cancelled batch stops and keeps what was done', async () => {
    const url = `data:image/jpeg;base64,${Buffer.from(pictures[0]!.jpeg).toString('base64')}`
    const lines = Array.from({ length: 6000 }, (_, i) =>
      JSON.stringify({ image_url: url, custom_id: `c${i}` }),
    )
    const batch = await submit(lines.join('\n'), {
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
    })
    await until(
      () => openai.batches.retrieve(batch.id),
      ({ request_counts }) => request_counts!.completed > 0,
    )
    const cancelling = await openai.batches.cancel(batch.id)
    expect(cancelling.status).toBe('cancelling')
    const done = await finish(batch.id)
    expect(done.status).toBe('cancelled')
    const output = await resultsOf(done.output_file_id)
    expect(output.length).toBe(done.request_counts!.completed)
    expect(output.length).toBeGreaterThan(0)
    expect(output.length).toBeLessThan(6000)
  })

  test('what a tenant made is not there for another', async () => {
    const other = fleet.openai(await fleet.keyOf('umbrella'))
    const { data } = await openai.batches.list({ limit: 1 })
    await expect(other.batches.retrieve(data[0]!.id)).rejects.toMatchObject({ status: 404 })
    await expect(other.files.retrieve(data[0]!.input_file_id!)).rejects.toMatchObject({ status: 404 })
    expect((await other.batches.list()).data).toEqual([])
    const stranger = fleet.openai('sk-turbine-nobody')
    await expect(stranger.models.list()).rejects.toMatchObject({ status: 401 })
  })

  test('one image has its caption while batches run, streamed or not', async () => {
    const url = `data:image/jpeg;base64,${Buffer.from(pictures[3]!.jpeg).toString('base64')}`
    const { data } = await openai.models.list()
    const request = {
      model: data[0]!.id,
      messages: [{ role: 'user' as const, content: [{ type: 'image_url' as const, image_url: { url } }] }],
    }
    const whole = await openai.chat.completions.create(request)
    expect(whole.choices[0]!.message.content).toMatch(/\w/)
    expect(whole.usage!.total_tokens).toBeGreaterThan(0)
    const parts = await openai.chat.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    })
    let text = ''
    let tokens = 0
    for await (const { choices, usage } of parts) {
      text += choices[0]?.delta.content ?? ''
      tokens += usage?.total_tokens ?? 0
    }
    expect(text).toBe(whole.choices[0]!.message.content)
    expect(tokens).toBe(whole.usage!.total_tokens)
  })
})

/** Pictures by address: `/0.jpg`, and `/text`, which is none. */
async function servePictures(pictures: Picture[]) {
  const server = createServer((request, response) => {
    const picture = pictures[Number(/^\/(\d+)\.jpg$/.exec(request.url ?? '')?.[1] ?? -1)]
    response.setHeader('content-type', 'image/jpeg')
    response.end(picture?.jpeg ?? 'this is no image')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, close: () => void server.close() }
}
