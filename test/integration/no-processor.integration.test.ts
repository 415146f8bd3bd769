import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { keys } from '../../edge/contract/keys.ts'
import type { ModelSummary, ServedModel } from '../../edge/contract/model.ts'
import { putJson } from '../../infra/store/json.ts'
import { drawPictures, type Picture } from '../e2e/pictures.ts'
import { canStartS3 } from '../servers/s3.ts'
import { type Fleet, manifestOf, startFleet, until } from './fleet.ts'

const lines = 5
const day = 24 * 3_600_000
const model: ModelSummary = {
  id: 'turbine-starter',
  object: 'model',
  created: 0,
  owned_by: 'turbine',
  turbine: { image_size: 224, device: 'cpu', tokens_in: 197, prune_levels: [] },
}

describe.skipIf(!inject('kafkaOfOwn') || !canStartS3())('while no processor is up', () => {
  let fleet: Fleet
  let openai: OpenAI
  let key: string
  let pictures: Picture[]

  beforeAll(async () => {
    ;[fleet, pictures] = await Promise.all([startFleet(), drawPictures(2)])
    key = await fleet.keyOf('acme')
    openai = fleet.openai(key)
    await fleet.start('planner')
  })
  afterAll(() => fleet?.dispose())

  const caption = (query = '') =>
    fetch(`${fleet.url}/v1/captions${query}`, {
      method: 'POST',
      body: pictures[0]!.jpeg,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'image/jpeg' },
    })
  const stateOf = async () =>
    ((await openai.models.list()).data as unknown as ModelSummary[]).map(({ turbine }) => turbine.state)
  const outcome = async (response: Response) => [
    response.status,
    ((await response.json()) as { error: { code: string } }).error.code,
    response.headers.get('retry-after'),
  ]

  test('a batch is created for a model that was announced once, waits, and is done when a processor comes', async () => {
    expect(await outcome(await caption())).toEqual([503, 'model_not_ready', '5'])
    const seenAt = Date.now() - 3 * day
    await putJson(fleet.store, keys.model(model.id), { model, throughput: 10, seenAt } satisfies ServedModel)
    await until(stateOf, ([state]) => state === 'stopped')
    expect(await outcome(await caption())).toEqual([503, 'model_not_ready', '5'])
    expect(await outcome(await caption('?model=never'))).toEqual([404, 'model_not_found', null])

    const file = await openai.files.create({ purpose: 'batch', file: manifestOf(pictures, lines) })
    const created = await openai.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/captions' as OpenAI.BatchCreateParams['endpoint'],
      completion_window: '24h',
    })
    const batchNow = () => openai.batches.retrieve(created.id)
    await until(batchNow, ({ status }) => status === 'in_progress')

    await fleet.start('processor')
    const done = await until(batchNow, ({ status }) => !['in_progress', 'finalizing'].includes(status))
    expect(done).toMatchObject({ status: 'completed', request_counts: { completed: lines, failed: 0 } })
    await until(stateOf, ([state]) => state === 'ready')
    expect((await caption()).status).toBeLessThan(300)
  })
})
