import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import type { Caption } from '../../edge/contract/caption.ts'
import { jobTopic } from '../../edge/contract/topics.ts'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { createKafka } from '../../infra/stream/kafka-connection.ts'
import { referenceOf } from '../../processor/models/reference.fixture.ts'
import { runTurbine } from '../e2e/turbine.ts'
import { canStartS3 } from '../servers/s3.ts'
import { type Fleet, linesOf, type Part, startFleet, until } from './fleet.ts'

const { folder: smolvlm, picture, views } = referenceOf('smolvlm')
const [starter, talker] = ['turbine-starter', 'smolvlm']
const view = Object.values(views).find(({ options }) => Object.keys(options).length === 0)!
const image_url = `data:image/png;base64,${Buffer.from(picture(view)).toString('base64')}`

/** The story of a fleet of two models, each with topics and a processor of its own, and of a stream whose processor is lost. */
describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('streams of several models in one fleet', () => {
  let fleet: Fleet
  let openai: OpenAI
  let key: string
  let talking: Part

  beforeAll(async () => {
    fleet = await startFleet({ sloMs: 20_000 })
    await fleet.run(['topics', 'create', '--model', starter, '--model', talker])
    key = await fleet.keyOf('acme')
    openai = fleet.openai(key)
    const parts = [
      fleet.start('processor', ['--model', bundledModel]),
      fleet.start('processor', ['--model', smolvlm]),
      fleet.start('planner'),
    ]
    talking = (await Promise.all(parts))[1]!
    await until(listed, (ids) => ids.includes(starter) && ids.includes(talker))
  })
  afterAll(async () => fleet?.dispose())

  const listed = async () => (await openai.models.list()).data.map(({ id }) => id)
  const ask = (model: string, more: object = {}) => ({
    model,
    messages: [
      {
        role: 'user' as const,
        content: [
          ...(model === talker ? [{ type: 'text' as const, text: 'Describe this image.' }] : []),
          { type: 'image_url' as const, image_url: { url: image_url } },
        ],
      },
    ],
    turbine: { deadline_ms: 20_000 },
    ...more,
  })
  /** What the model says is random, and goes on for seconds. */
  const long = { max_tokens: 1500, temperature: 1, seed: 14 }
  const streamOf = (model: string, more: object = {}) =>
    openai.chat.completions.create({ ...ask(model, more), stream: true }, { maxRetries: 0 })
  const textOf = (chunks: OpenAI.ChatCompletionChunk[]) =>
    chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? '')).join('')
  const captionOf = async (id: string) => {
    const headers = { authorization: `Bearer ${key}` }
    const response = await until(
      () => fetch(`${fleet.url}/v1/captions/${id}`, { headers }),
      ({ status }) => status !== 202,
    )
    return (await response.json()) as Extract<Caption, { status: 'completed' }>
  }

  test('each model streams what it has, and an unknown one is told', async () => {
    for (const [model, more] of [
      [starter, {}],
      [talker, { max_tokens: 60, temperature: 1, seed: 7 }],
    ] as const) {
      const chunks: OpenAI.ChatCompletionChunk[] = []
      for await (const chunk of await streamOf(model, more)) chunks.push(chunk)
      const whole = await openai.chat.completions.create(ask(model, more))
      expect(textOf(chunks)).toBe(whole.choices[0]!.message.content)
      expect(whole.model).toBe(model)
    }
    await expect(streamOf('florence')).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining(talker),
    })
  })

  test('a batch of each runs with its model', async () => {
    const run = async (model: string) => {
      const lines = Array.from({ length: 6 }, (_, i) => ({
        custom_id: `${i}`,
        method: 'POST',
        url: '/v1/chat/completions',
        body: { ...ask(model, model === talker ? { max_tokens: 8 } : {}), turbine: {} },
      }))
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
      const file = await openai.files.create({ purpose: 'batch', file: new File([text], 'lines.jsonl') })
      const { id } = await openai.batches.create({
        ...{ input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' },
        // OpenAI's has none.
        ...({ model } as object),
      })
      const done = await until(
        () => openai.batches.retrieve(id),
        ({ status }) => /^(completed|failed)$/.test(status),
      )
      expect(done.errors?.data ?? []).toEqual([])
      expect(done).toMatchObject({ status: 'completed', request_counts: { completed: 6, failed: 0 } })
      const output = await (await openai.files.content(done.output_file_id!)).text()
      return linesOf<{ response: { body: { model: string } } }>(output).map(
        ({ response }) => response.body.model,
      )
    }
    const six = (model: string) => new Array<string>(6).fill(model)
    expect(await Promise.all([run(starter), run(talker)])).toEqual([six(starter), six(talker)])
  })

  test('a stream whose processor is lost ends with a clear error or goes on, and the caption is made', async () => {
    const chunks: OpenAI.ChatCompletionChunk[] = []
    let restarted: Promise<Part> | undefined
    const read = async () => {
      for await (const chunk of await streamOf(talker, long)) {
        chunks.push(chunk)
        if (restarted || textOf(chunks) === '') continue
        talking.turbine.kill('SIGKILL')
        restarted = fleet.start('processor', ['--model', smolvlm])
      }
    }
    const startedAt = Date.now()
    const error = await read().catch((thrown: unknown) => thrown)
    expect(Date.now() - startedAt).toBeLessThan(60_000)
    if (error !== undefined)
      expect(error).toMatchObject({ code: expect.stringMatching(/^caption_(pending|changed)$/) })
    // The other model's callers notice nothing.
    expect((await openai.chat.completions.create(ask(starter))).model).toBe(starter)
    talking = await restarted!
    const { status, caption, turbine } = await captionOf(chunks[0]!.id)
    expect({ status, model: turbine.model }).toEqual({ status: 'completed', model: talker })
    expect(caption.startsWith(textOf(chunks)) || error !== undefined).toBe(true)
  })

  test('a model whose topics are gone has a clear answer, and the others go on', async () => {
    const admin = createKafka({ brokers: [fleet.kafka.brokers] }).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [jobTopic('interactive', talker).topic] })
    await admin.disconnect()
    const startedAt = Date.now()
    const error = await openai.chat.completions
      .create(ask(talker, { max_tokens: 5, turbine: { deadline_ms: 5000 } }), { maxRetries: 0 })
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ status: 503 })
    expect(Date.now() - startedAt).toBeLessThan(40_000)
    expect((await openai.chat.completions.create(ask(starter))).model).toBe(starter)
    // Its groups, which are there, commit their places by themselves.
    await runTurbine(['topics', 'create', '--model', talker], { env: fleet.env })
    const answered = await until(
      () =>
        openai.chat.completions
          .create(ask(talker, { max_tokens: 5 }), { maxRetries: 0 })
          .catch(() => undefined),
      (answer) => answer !== undefined,
    )
    expect(answered!.model).toBe(talker)
  })
})
