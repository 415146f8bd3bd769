import { expect, test } from 'vitest'
import { errorOf, fakeEdge, starter } from '../app.fixture.ts'
import { modelListSchema, modelSchema } from '../contract/model.ts'

const hub = { ...starter, id: 'Salesforce/blip-image-captioning-base' }
const { app } = fakeEdge({ models: () => [starter, hub] })

test('the served models are listed in the shape that is documented', async () => {
  const response = await app.request('/v1/models')
  expect(response.status).toBe(200)
  expect(modelListSchema.parse(await response.json()).data).toEqual([starter, hub])
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
