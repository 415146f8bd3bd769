import { expect, test } from 'vitest'
import { getJson } from '../../infra/store/store.ts'
import { errorOf, fakeEdge, jsonRequest, starter } from '../app.fixture.ts'
import type { StoredBatch } from '../contract/batch.ts'
import { keys } from '../contract/keys.ts'
import { blipCapabilities, modelListSchema, modelSchema } from '../contract/model.ts'
import { resourceEdge } from './resources.fixture.ts'

const image_url = 'https://example.com/a.png'

const hub = { ...starter, id: 'Salesforce/blip-image-captioning-base' }
const { app } = fakeEdge({ models: () => [starter, hub] })

test('the served models are listed in the shape that is documented', async () => {
  const response = await app.request('/v1/models')
  expect(response.status).toBe(200)
  expect(modelListSchema.parse(await response.json()).data).toEqual([starter, hub])
})

test.each([
  [16, {}, 8],
  [16, { maxImages: 3 }, 3],
  [2, { maxImages: 3 }, 2],
  [undefined, {}, undefined],
])('a model of %j images in a service with %j says %j', async (max_images, reading, expected) => {
  const model = { ...starter, turbine: { ...starter.turbine, ...(max_images && { max_images }) } }
  const { app } = fakeEdge({ models: () => [model], reading })
  const { data } = modelListSchema.parse(await (await app.request('/v1/models')).json())
  const one = modelSchema.parse(await (await app.request('/v1/models/starter')).json())
  expect([...data, one].map(({ turbine }) => turbine.max_images)).toEqual([expected, expected])
})

test.each([
  ['/v1/models/starter', 'starter'],
  ['/v1/models/Salesforce/blip-image-captioning-base', hub.id],
  ['/v1/models/Salesforce%2Fblip-image-captioning-base', hub.id],
])('%s is one model', async (path, id) => {
  const response = await app.request(path)
  expect(response.status).toBe(200)
  expect(modelSchema.parse(await response.json()).id).toBe(id)
})

test('an unknown model is refused with the served ones', async () => {
  const response = await app.request('/v1/models/other')
  expect(response.status).toBe(404)
  const error = await errorOf(response)
  expect(error).toMatchObject({ code: 'model_not_found', type: 'not_found_error', param: 'model' })
  expect(error.message).toContain(`Served: starter, ${hub.id}`)
})

const aliased = fakeEdge({
  models: () => [starter, hub],
  reading: { aliases: { 'gpt-4o-mini': 'starter', '*': hub.id, lost: 'gone' } },
})

test('aliases are listed behind the models, with what they stand for', async () => {
  const { data } = modelListSchema.parse(await (await aliased.app.request('/v1/models')).json())
  expect(data.map(({ id, turbine }) => [id, turbine.alias_of])).toEqual([
    ['starter', undefined],
    [hub.id, undefined],
    ['gpt-4o-mini', 'starter'],
    ['*', hub.id],
  ])
})

test.each([
  ['starter', undefined],
  ['gpt-4o-mini', 'starter'],
  ['owner/anything', hub.id],
])('%s is found', async (id, alias_of) => {
  const response = await aliased.app.request(`/v1/models/${id}`)
  const model = modelSchema.parse(await response.json())
  expect([model.id, model.turbine.alias_of]).toEqual([id, alias_of])
})

const inState = (state: 'ready' | 'waiting' | 'stopped') => ({
  models: () => [{ ...starter, turbine: { ...starter.turbine, state } }],
})

test.each([
  ['ready', {}, 200],
  ['waiting', {}, 200],
  ['stopped', {}, 503],
  ['stopped', { model: 'starter' }, 503],
  ['stopped', { model: 'never' }, 404],
  ['stopped', { image_url: undefined, messages: [{ role: 'user', content: [{ image_url }] }] }, 503],
] as const)('a request for a model that is %s: %j', async (state, parameters, status) => {
  const { app } = fakeEdge(inState(state))
  const path = 'messages' in parameters ? '/v1/chat/completions' : '/v1/captions'
  const response = await app.request(path, jsonRequest({ image_url, ...parameters }))
  expect(response.status).toBe(status)
  if (status === 503) {
    expect(await errorOf(response)).toMatchObject({ code: 'model_not_ready' })
    expect(response.headers.get('retry-after')).toBe('5')
  }
})

test.each([{}, { model: 'starter' }, { model: undefined }])(
  'before any model was announced, a request is 503 with a time to wait, whatever it names: %j',
  async (parameters) => {
    const { app } = fakeEdge({ models: () => [] })
    const response = await app.request('/v1/captions', jsonRequest({ image_url, ...parameters }))
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
  },
)

test.each(['ready', 'waiting', 'stopped'] as const)(
  'a batch is created for a model that is %s, by its name, an alias or none',
  async (state) => {
    const reading = { aliases: { 'gpt-4o-mini': 'starter' }, ignored: ['user'] }
    const edge = resourceEdge({ ...inState(state), reading })
    const input_file_id = await edge.upload('https://example.com/a.jpg')
    const ask = { input_file_id, endpoint: '/v1/captions', completion_window: '24h' }
    for (const model of [undefined, 'starter', 'gpt-4o-mini']) {
      const response = await edge.call('POST', '/v1/batches', { json: { ...ask, model } })
      expect(response.status).toBe(200)
      const { id, model: named } = (await response.json()) as { id: string; model: string }
      expect(named).toBe('starter')
      const stored = await getJson<StoredBatch>(edge.deps.store, keys.batch('default', id))
      expect(stored?.reading).toEqual({ ...reading, can: blipCapabilities })
    }
    const unknown = await edge.call('POST', '/v1/batches', { json: { ...ask, model: 'never' } })
    expect(unknown.status).toBe(404)
  },
)
