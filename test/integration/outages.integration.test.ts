import { setTimeout as delay } from 'node:timers/promises'
import type OpenAI from 'openai'
import { toFile } from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { Caption } from '../../edge/contract/caption.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { canStartS3 } from '../servers/s3.ts'
import { type Fleet, linesOf, type Part, startFleet, until } from './fleet.ts'

/** How long servers stay away; more in a run by hand. */
const awayMs = Number(process.env.OUTAGE_MS ?? 4000)
const patientMs = 4 * awayMs + 120_000

describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('a fleet on a bad day', () => {
  let fleet: Fleet
  let openai: OpenAI
  let apiKey: string
  let processor: Part
  let planner: Part
  let pictures: Picture[]

  beforeAll(async () => {
    ;[fleet, pictures] = await Promise.all([startFleet(), drawPictures(4)])
    apiKey = await fleet.keyOf('acme')
    openai = fleet.openai(apiKey)
    ;[processor, planner] = await Promise.all([fleet.start('processor'), fleet.start('planner')])
  })
  afterAll(() => fleet?.dispose())

  const addressOf = (i: number) =>
    `data:image/jpeg;base64,${Buffer.from(pictures[i % pictures.length]!.jpeg).toString('base64')}`
  const names = Array.from({ length: 2000 }, (_, i) => `scene-${i}`)

  /** A batch that takes some seconds; resolves when some of it is done. */
  const startBatch = async (imageOf = addressOf, count = names.length) => {
    const lines = names
      .slice(0, count)
      .map((custom_id, i) => JSON.stringify({ custom_id, image_url: imageOf(i) }))
    const file = await openai.files.create({
      purpose: 'batch',
      file: await toFile(Buffer.from(lines.join('\n')), 'work.jsonl'),
    })
    const { id } = await openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
      completion_window: '24h',
    })
    await until(
      () => openai.batches.retrieve(id),
      ({ request_counts }) => request_counts!.completed > 0,
    )
    return id
  }
  const expectWhole = async (id: string, count = names.length) => {
    const done = await until(
      () => openai.batches.retrieve(id),
      ({ status }) => /^(completed|failed|expired|cancelled)$/.test(status),
    )
    if (done.error_file_id) {
      const errors = await (await openai.files.content(done.error_file_id)).text()
      const letters = await fleet.run(['dead-letter', 'list', '--json'])
      console.error(errors.slice(0, 1000), letters)
    }
    expect(done).toMatchObject({
      status: 'completed',
      request_counts: { total: count, completed: count, failed: 0 },
    })
    const text = await (await openai.files.content(done.output_file_id!)).text()
    expect(linesOf<{ custom_id: string }>(text).map(({ custom_id }) => custom_id)).toEqual(
      names.slice(0, count),
    )
  }
  const post = (path = '/v1/captions', headers: Record<string, string> = {}, picture = 0) =>
    fetch(`${fleet.url}${path}`, {
      method: 'POST',
      body: pictures[picture]!.jpeg,
      headers: { 'content-type': 'image/jpeg', authorization: `Bearer ${apiKey}`, ...headers },
    })
  const get = (id: string) =>
    fetch(`${fleet.url}/v1/captions/${id}`, { headers: { authorization: `Bearer ${apiKey}` } })

  test('the planner is killed in a batch: another one finishes it', { timeout: patientMs }, async () => {
    const id = await startBatch()
    planner.turbine.kill('SIGKILL')
    await planner.turbine.exited
    planner = await fleet.start('planner')
    await expectWhole(id)
  })

  test('S3 is away: nothing is lost, and the processor says why it is not ready', {
    timeout: patientMs,
  }, async () => {
    const id = await startBatch()
    await fleet.s3.stop()
    const waited = delay(awayMs)
    const state = await until(
      async () =>
        (await fetch(`${processor.url}/health/ready`)).json() as Promise<{ ready: boolean; checks: object }>,
      ({ ready }) => !ready,
    )
    expect(state.checks).toMatchObject({ store: { ok: false }, stream: { ok: true } })
    await waited
    await fleet.s3.start()
    await expectWhole(id)
  })

  test("S3 is away: images in callers' buckets at the same server are waited for", {
    timeout: patientMs,
  }, async () => {
    await fleet.s3.createBucket('pictures')
    await fleet.run(['tenants', 'grant', 'acme', '--read', 's3://pictures/'])
    for (const [i, { jpeg }] of pictures.entries()) await fleet.bucket('pictures').put(`${i}.jpg`, jpeg)
    const count = 600
    const id = await startBatch((i) => `s3://pictures/${i % pictures.length}.jpg`, count)
    await fleet.s3.stop()
    await delay(awayMs)
    await fleet.s3.start()
    await expectWhole(id, count)
  })

  test('Kafka is away: new calls are refused, accepted ones are answered later', {
    timeout: patientMs,
  }, async () => {
    const id = await startBatch()
    const accepted = await post('/v1/captions', { prefer: 'respond-async' })
    expect(accepted.status).toBe(202)
    await fleet.kafka.kill()
    const waited = delay(awayMs)
    const refused = await post('/v1/captions?deadline_ms=100')
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([
      503,
      expect.stringMatching(/^\d+$/),
    ])
    await waited
    await fleet.kafka.start()
    const caption = ((await accepted.json()) as Caption).id
    const answer = await until(
      () => get(caption),
      ({ status }) => status !== 202,
    )
    expect(answer.status).toBe(200)
    await expectWhole(id)
    const again = await until(
      () => post(),
      ({ status }) => status !== 503,
      1000,
    )
    expect(again.status).toBe(200)
  })

  test('the edge restarts: results are there, and a repeat with the same key does not run twice', {
    timeout: patientMs,
  }, async () => {
    const key = { 'idempotency-key': 'order-66' }
    const first = (await (await post('/v1/captions', key, 1)).json()) as Caption
    const queued = (await (await post('/v1/captions', { prefer: 'respond-async' }, 2)).json()) as Caption
    await fleet.restartEdge()
    const repeat = await post('/v1/captions', key, 1)
    expect(repeat.headers.get('idempotent-replayed')).toBe('true')
    expect(await repeat.json()).toEqual(first)
    const other = await post('/v1/captions', key, 2)
    expect(other.status).toBe(422)
    const result = await until(
      () => get(queued.id),
      ({ status }) => status !== 202,
    )
    expect(result.status).toBe(200)
  })
})
