import { fileURLToPath } from 'node:url'
import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { Caption } from '../../edge/contract/caption.ts'
import { jobTopic } from '../../edge/contract/topics.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { canStartS3 } from '../servers/s3.ts'
import { type Fleet, linesOf, type Part, startFleet, until } from './fleet.ts'

const vitGpt2 = fileURLToPath(new URL('../fixtures/models/vit-gpt2', import.meta.url))
const [starter, other] = ['turbine-starter', 'vit-gpt2']

type Completed = Extract<Caption, { status: 'completed' }>

/** The story of a fleet with one model, which gets a second one and then topics for the first one. */
describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('several models in one fleet', () => {
  let fleet: Fleet
  let key: string
  let openai: OpenAI
  let picture: Picture
  let first: Part

  beforeAll(async () => {
    fleet = await startFleet({ sloMs: 20_000 })
    picture = (await drawPictures(1))[0]!
    key = await fleet.keyOf('acme')
    openai = fleet.openai(key)
    first = await fleet.start('processor')
    await fleet.start('planner')
  })
  afterAll(async () => fleet?.dispose())

  const ask = async (query: Record<string, string> = {}, prefer = 'wait=20') =>
    fetch(`${fleet.url}/v1/captions?${new URLSearchParams({ ...query, max_prune: '0' })}`, {
      method: 'POST',
      body: picture.jpeg,
      headers: { 'content-type': 'image/jpeg', authorization: `Bearer ${key}`, prefer },
    })
  const captionFrom = async (query?: Record<string, string>) => {
    const response = await until(
      () => ask(query),
      ({ status }) => status !== 503,
    )
    const text = await response.text()
    if (response.status !== 200) throw new Error(`${response.status}: ${text}`)
    return JSON.parse(text) as Completed
  }
  const accepted = async (model: string) => {
    const response = await ask({ model }, 'respond-async')
    if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`)
    return ((await response.json()) as Caption).id
  }
  const finished = async (id: string) => {
    const authorization = `Bearer ${key}`
    const get = () => fetch(`${fleet.url}/v1/captions/${id}`, { headers: { authorization } })
    const response = await until(get, ({ status }) => status !== 202)
    return (await response.json()) as Completed
  }
  const listed = async () => (await openai.models.list()).data.map(({ id }) => id)
  const runBatch = async (model: string) => {
    const image_url = `data:image/jpeg;base64,${Buffer.from(picture.jpeg).toString('base64')}`
    const lines = Array.from({ length: 10 }, (_, i) => ({
      custom_id: `${i}`,
      method: 'POST',
      url: '/v1/captions',
      body: { model, image_url },
    }))
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    const file = await openai.files.create({ purpose: 'batch', file: new File([text], 'lines.jsonl') })
    const { id } = await openai.batches.create({
      ...{ input_file_id: file.id, endpoint: '/v1/captions' as '/v1/responses', completion_window: '24h' },
      // OpenAI's has none.
      ...({ model } as object),
    })
    const done = await until(
      () => openai.batches.retrieve(id),
      ({ status }) => /^(completed|failed)$/.test(status),
    )
    expect(done).toMatchObject({ status: 'completed', request_counts: { completed: 10, failed: 0 } })
    const output = await (await openai.files.content(done.output_file_id!)).text()
    return linesOf<{ response: { body: Completed } }>(output).map(
      ({ response }) => response.body.turbine.model,
    )
  }
  const ten = (model: string) => new Array<string>(10).fill(model)

  test('a second model gets topics, and its jobs and no others', async () => {
    expect((await captionFrom()).turbine.model).toBe(starter)
    const created = await fleet.run(['topics', 'create', '--model', other])
    expect(created).toContain(jobTopic('batch', other).topic)
    await fleet.start('processor', ['--model', vitGpt2])
    await until(listed, (ids) => ids.includes(other))
    expect(await listed()).toEqual([starter, other])
    const asked = Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? starter : other))
    const answers = await Promise.all(asked.map((model) => captionFrom({ model })))
    expect(answers.map(({ turbine }) => turbine.model)).toEqual(asked)
    expect(await Promise.all([runBatch(starter), runBatch(other)])).toEqual([ten(starter), ten(other)])
    const unknown = await ask({ model: 'florence' })
    expect(unknown.status).toBe(404)
    expect(await unknown.text()).toContain(`${starter}, ${other}`)
  })

  test('the first model gets topics too, and what was sent before reaches it there', async () => {
    first.turbine.kill('SIGKILL')
    await first.turbine.exited
    const before = await Promise.all(Array.from({ length: 6 }, () => accepted(starter)))
    await fleet.run(['topics', 'create', '--model', starter])
    first = await fleet.start('processor')
    const captions = await Promise.all(before.map(finished))
    expect(captions.map(({ turbine }) => turbine.model)).toEqual(before.map(() => starter))
    expect((await captionFrom({ model: starter })).turbine.model).toBe(starter)
    expect(await runBatch(starter)).toEqual(ten(starter))
    const metrics = await (await fetch(`${first.url}/metrics`)).text()
    expect(metrics).toMatch(/^turbine_stream_lag\{lane="interactive",model="turbine-starter"\} \d+$/m)
    expect(metrics).toMatch(/^turbine_replicas\{lane="batch",model="turbine-starter"\} 1$/m)
  })
})
