import { expect, test } from 'vitest'
import { greedy } from '../models/generation.ts'
import { wholePicture } from '../models/pictures.ts'
import { PromptError, type PromptRequest } from '../models/prompts.ts'
import type { CaptionTask } from './captioner.ts'
import { checkImages, taskRow } from './task-row.ts'

const image = new Uint8Array(1)
const picture = { pixels: new Uint8Array(new SharedArrayBuffer(3)), shape: wholePicture }

async function rowOf(task: Partial<CaptionTask>, generation = greedy(20)) {
  const requests: PromptRequest[] = []
  const model = {
    generation,
    maxTokens: 20,
    runner: { kind: 'captioner' } as never,
    encode: async (request: PromptRequest) => {
      requests.push(request)
      return { ids: [1], places: [] }
    },
  }
  const row = await taskRow(model, { image, lane: 'batch', ...task }, [picture])
  return { row, request: requests[0]! }
}

test.each([
  ['nothing', {}, { text: '', beginning: '' }],
  ['a beginning', { prompt: 'a picture of' }, { text: '', beginning: 'a picture of' }],
  [
    'a request',
    { request: { system: 'Be short.', text: 'What is it?', beginning: 'A' } },
    { system: 'Be short.', text: 'What is it?', beginning: 'A' },
  ],
])('asks %s', async (_, task, expected) => {
  expect((await rowOf(task)).request).toEqual({ ...expected, pictures: [wholePicture] })
})

test("settings are the model's, then the task's, and never more tokens than the model has", async () => {
  expect((await rowOf({})).row.settings).toEqual(greedy(20))
  expect((await rowOf({ maxTokens: 5, settings: { topP: 0.5 } })).row.settings).toEqual({
    ...greedy(5),
    topP: 0.5,
  })
  expect((await rowOf({ maxTokens: 99 })).row.settings.maxTokens).toBe(20)
})

test('a caption that is sampled has a seed, its own or another each time', async () => {
  const seedOf = async (settings: CaptionTask['settings']) => (await rowOf({ settings })).row.settings.seed
  expect(await seedOf({ temperature: 1, seed: 7 })).toBe(7)
  expect(await seedOf({ temperature: 0 })).toBeUndefined()
  const drawn = await Promise.all(Array.from({ length: 5 }, () => seedOf({ temperature: 1 })))
  expect(new Set(drawn).size).toBeGreaterThan(1)
  expect((await rowOf({}, { ...greedy(20), temperature: 0.7 })).row.settings.seed).toBeTypeOf('number')
})

test.each([
  ['the beams of the model', {}, { ...greedy(20), beams: 3 }, { beams: 3, temperature: 0 }],
  ['its beams, of both', {}, { ...greedy(20), beams: 3, temperature: 0.7 }, { beams: 3, temperature: 0 }],
  [
    'a temperature instead of them',
    { temperature: 1 },
    { ...greedy(20), beams: 3 },
    { beams: 1, temperature: 1 },
  ],
  ['beams instead of one', { beams: 2 }, { ...greedy(20), temperature: 0.7 }, { beams: 2, temperature: 0 }],
])('a caption is made with %s', async (_, settings, generation, expected) => {
  expect((await rowOf({ settings }, generation)).row.settings).toMatchObject(expected)
})

test("a prompt that the model refuses is the request's fault", async () => {
  const refuse = async () => {
    throw new PromptError('prompt_too_long', 'Too long.')
  }
  const model = {
    generation: greedy(20),
    maxTokens: 20,
    runner: { kind: 'captioner' } as never,
    encode: refuse,
  }
  await expect(taskRow(model, {}, [picture])).rejects.toThrow(
    expect.objectContaining({ code: 'prompt_too_long', status: 400, param: 'prompt' }),
  )
})

test.each([
  [1, 0, false],
  [1, 1, true],
  [1, 2, false],
  [4, 4, true],
  [4, 5, false],
])('a model that takes %i images, with %i', (maxPictures, count, fits) => {
  const check = () => checkImages({ id: 'm', maxPictures }, new Array(count).fill(image))
  if (fits) check()
  else expect(check).toThrow(expect.objectContaining({ code: 'too_many_images' }))
})
