import { encodeBase64 } from 'hono/utils/encode'
import { describe, expect, test } from 'vitest'
import { errorOf, fakeEdge, pngHeader, starter } from '../app.fixture.ts'
import { maxBodyBytes } from '../contract/caption.ts'
import { generationNames } from '../contract/generation.ts'
import { decodeJob, imagesOf } from '../contract/job.ts'
import type { ModelSummary } from '../contract/model.ts'
import type { EdgeDeps } from '../deps.ts'
import { resourceEdge } from './resources.fixture.ts'

const png = pngHeader()
const dataUrl = `data:image/png;base64,${encodeBase64(png.buffer)}`

const announced = (id: string, can: Partial<ModelSummary['turbine']>): ModelSummary => ({
  ...starter,
  id,
  turbine: { ...starter.turbine, ...can },
})

const smolvlm = announced('smolvlm', {
  ...{ family: 'idefics3', follows_text: 'instructions', max_images: 3, output: 'caption' },
  parameters: generationNames,
  max_pixels: 1_048_576,
})
const florence = announced('florence', {
  ...{ family: 'florence2', follows_text: 'tasks', max_images: 1, output: 'caption' },
  tasks: ['<CAPTION>', '<DETAILED_CAPTION>'],
  parameters: ['num_beams'],
})
const models = () => [starter, smolvlm, florence]

function ask(path: string, json: object, overrides: Partial<EdgeDeps> = {}) {
  const edge = resourceEdge({ models, ...overrides })
  const response = edge.call('POST', path, { json })
  const job = async () => {
    expect((await response).status).toBe(200)
    return decodeJob(edge.sent[0]!.record)
  }
  return { edge, response, job }
}

const image = (url = dataUrl) => ({ type: 'image_url', image_url: { url } })
const user = (...content: unknown[]) => ({ role: 'user', content })

describe('a chat', () => {
  test('is followed by a model that follows instructions', async () => {
    const messages = [
      { role: 'system', content: 'Be brief.' },
      user('What is this?', image()),
      { role: 'assistant', content: 'A fish.' },
      user('Which colour?'),
      { role: 'assistant', content: 'It is' },
    ]
    const json = { model: 'smolvlm', messages, temperature: 0.5, seed: 7, n: 2, repetition_penalty: null }
    const { job, response } = ask('/v1/chat/completions', json)
    expect(await job()).toMatchObject({
      model: 'smolvlm',
      request: { system: 'Be brief.', text: 'What is this?\nWhich colour?', beginning: 'It is' },
      settings: { temperature: 0.5, seed: 7 },
      n: 2,
      image: png,
    })
    // There is no conversation, and that is said.
    expect((await response).headers.get('x-turbine-ignored-parameters')).toBe('messages.2.content')
  })

  test('names a task, with its text or with a field', async () => {
    const byText = ask('/v1/chat/completions', {
      model: 'florence',
      messages: [user('<DETAILED_CAPTION>', image())],
    })
    const byField = ask('/v1/chat/completions', {
      ...{ model: 'florence', messages: [user(image())], num_beams: 3 },
      turbine: { task: '<DETAILED_CAPTION>' },
    })
    expect((await byText.job()).request).toEqual({ task: '<DETAILED_CAPTION>' })
    expect(await byField.job()).toMatchObject({
      request: { task: '<DETAILED_CAPTION>' },
      settings: { beams: 3 },
    })
  })

  test.each([
    ['/v1/chat/completions', { messages: [user(image())] }],
    ['/v1/captions', { image_url: dataUrl }],
  ])('at %s says how large its pictures are to be seen, where that is a choice', async (path, json) => {
    const turbine = { max_pixels: 262_144 }
    const { job } = ask(path, { model: 'smolvlm', ...json, turbine })
    expect((await job()).request).toEqual({ maxPixels: 262_144 })
    const { response } = ask(path, { model: 'florence', ...json, turbine })
    expect(await errorOf(await response)).toMatchObject({
      code: 'unsupported_parameter',
      param: 'turbine.max_pixels',
      message: expect.stringContaining('the model "florence" (florence2) sees every picture in one size'),
    })
    const ignoring = ask(path, { model: 'florence', ...json, turbine }, { reading: { ignored: ['*'] } })
    expect((await ignoring.job()).request).toBeUndefined()
    expect((await ignoring.response).headers.get('x-turbine-ignored-parameters')).toBe('turbine.max_pixels')
    const { response: wrong } = ask(path, { model: 'smolvlm', ...json, turbine: { max_pixels: 0 } })
    expect((await wrong).status).toBe(400)
  })

  test.each([
    [['low'], { maxPixels: 262_144 }],
    [['low', 'low'], { maxPixels: 262_144 }],
    [['low', 'auto'], undefined],
    [['high'], undefined],
    [[undefined], undefined],
  ])('in detail %j sees as much as that needs', async (details, request) => {
    const images = details.map((detail) => ({ type: 'image_url', image_url: { url: dataUrl, detail } }))
    const { job } = ask('/v1/chat/completions', { model: 'smolvlm', messages: [user(...images)] })
    expect((await job()).request).toEqual(request)
    // One that sees all pictures in one size sees them in that.
    const json = { model: 'florence', image_url: { url: dataUrl, detail: details[0] } }
    expect((await ask('/v1/captions', json).job()).request).toBeUndefined()
  })

  test('holds several images for a model that takes them', async () => {
    const other = pngHeader(9)
    const second = `data:image/png;base64,${encodeBase64(other.buffer)}`
    const content = [{ type: 'image_url', image_url: { url: dataUrl, detail: 'high' } }, 'and', image(second)]
    const { job } = ask('/v1/chat/completions', { model: 'smolvlm', messages: [user(...content)] })
    const read = await job()
    expect(imagesOf(read, read.image as Uint8Array)).toEqual([png, other])
    expect(read.maxPrune).toBe(0)
  })

  test.each([
    ['smolvlm', 4, 'the model "smolvlm" (idefics3) takes at most 3'],
    ['starter', 2, 'the model "starter" (blip) takes one'],
    ['smolvlm', 17, 'at most 16'],
  ])('of %s with %d images is refused', async (model, count, message) => {
    const { response, edge } = ask('/v1/chat/completions', {
      ...{ model, messages: [user(...Array.from({ length: count }, () => image()))] },
    })
    expect((await response).status).toBe(400)
    const error = await errorOf(await response)
    expect(error).toMatchObject({ code: 'too_many_images', param: 'messages' })
    expect(error.message).toContain(message)
    expect(edge.sent).toEqual([])
  })

  test('whose images are together more than one may be is refused, before all are fetched', async () => {
    const fetched: string[] = []
    const large = new Uint8Array(maxBodyBytes - 10)
    large.set(png)
    const images: EdgeDeps['images'] = async (url) => {
      fetched.push(url)
      return large
    }
    const urls = ['a', 'b', 'c'].map((name) => image(`https://example.com/${name}.png`))
    const { response, edge } = ask(
      '/v1/chat/completions',
      { model: 'smolvlm', messages: [user(...urls)] },
      { images },
    )
    expect(await errorOf(await response)).toMatchObject({ code: 'images_too_large' })
    expect(fetched).toHaveLength(2)
    expect(edge.sent).toEqual([])
  })
})

describe('a caption request', () => {
  test.each([
    ['smolvlm', { text: 'Describe it.' }, undefined],
    ['starter', { beginning: 'Describe it.' }, undefined],
    ['florence', undefined, ['text_ignored']],
  ])('of %s asks what its prompt says', async (model, request, warnings) => {
    const { job } = ask('/v1/captions', { model, image_url: dataUrl, prompt: 'Describe it.' })
    const read = await job()
    expect([read.request, read.warnings]).toEqual([request, warnings])
  })

  test.each([
    [
      { model: 'florence', temperature: 0.5 },
      'temperature',
      'the model "florence" (florence2) honours max_tokens, stop, num_beams',
    ],
    [{ model: 'starter', n: 2 }, 'n', 'one caption'],
    [{ model: 'starter', turbine: { task: 'CAPTION' } }, 'turbine.task', 'has no tasks'],
    [{ model: 'florence', turbine: { task: 'OD' } }, 'turbine.task', 'It has <CAPTION>, <DETAILED_CAPTION>'],
    [{ model: 'smolvlm', prompt: 'x'.repeat(9000) }, 'prompt', 'at most 8192'],
  ])('of what a model cannot is refused: %j', async (json, param, message) => {
    const { response } = ask('/v1/captions', { image_url: dataUrl, ...json })
    expect((await response).status).toBe(400)
    const error = await errorOf(await response)
    expect(error).toMatchObject({ param })
    expect(error.message).toContain(message)
  })

  test('has its parameters in the query where its body is the image', async () => {
    const edge = fakeEdge({ models })
    const query = '?model=smolvlm&temperature=0.5&seed=3&n=2&prompt=Describe%20it.'
    const response = await edge.app.request(`/v1/captions${query}`, {
      ...{ method: 'POST', body: png, headers: { 'content-type': 'image/png' } },
    })
    expect(response.status).toBe(200)
    expect(decodeJob(edge.sent[0]!.record)).toMatchObject({
      ...{ settings: { temperature: 0.5, seed: 3 }, n: 2, request: { text: 'Describe it.' } },
    })
  })
})

test('a model says what it can', async () => {
  const response = await resourceEdge({ models }).call('GET', '/v1/models/florence')
  expect(await response.json()).toMatchObject({ turbine: { tasks: ['<CAPTION>', '<DETAILED_CAPTION>'] } })
})
