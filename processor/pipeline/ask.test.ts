import { describe, expect, test } from 'vitest'
import { ask, type CaptionAsk } from './ask.ts'
import type { Captioned, Captioner, CaptionTask } from './captioner.ts'

const turbine = {
  prune_level: 0,
  prune_ratio: 0,
  tokens_in: 9,
  tokens_out: 9,
  queue_ms: 1,
  inference_ms: 2,
  model: 'm',
}

/** Asks a captioner that numbers its captions. */
async function asked(wanted: Partial<CaptionAsk>, more: Partial<Captioner> & { answer?: object } = {}) {
  const tasks: CaptionTask[] = []
  const { answer = {}, ...rest } = more
  const captioner = {
    ...rest,
    caption: async (task: CaptionTask): Promise<Captioned> => {
      tasks.push(task)
      const caption = `caption ${tasks.length}`
      return {
        caption,
        finish_reason: 'stop',
        turbine: { ...turbine, output_tokens: 10 * tasks.length, ...answer },
      }
    },
  }
  const result = await ask(captioner, {
    images: [Uint8Array.of(1), Uint8Array.of(2)],
    lane: 'batch',
    ...wanted,
  })
  return { tasks, result }
}

test('a captioner gets the images, the request and its settings', async () => {
  const { tasks, result } = await asked({
    request: { text: 'a', beginning: 'b' },
    settings: { topK: 4 },
    maxTokens: 7,
  })
  expect(tasks).toEqual([
    {
      ...{
        lane: 'batch',
        maxTokens: 7,
        image: Uint8Array.of(1),
        images: [Uint8Array.of(1), Uint8Array.of(2)],
      },
      ...{ prompt: 'b', request: { text: 'a', beginning: 'b' }, settings: { topK: 4 } },
    },
  ])
  expect(result).not.toHaveProperty('captions')
  expect(result.turbine).not.toHaveProperty('warnings')
})

test('several captions have a seed each, and their tokens are counted together', async () => {
  const answer = { finish_reason: 'repetition', tags: [{ name: 'cat', score: 0.5, category: 'general' }] }
  const { tasks, result } = await asked({ n: 3, settings: { seed: 40 } }, { answer })
  expect(tasks.map(({ settings }) => settings?.seed)).toEqual([40, 41, 42])
  expect(result).toMatchObject({ caption: 'caption 1', turbine: { output_tokens: 60 } })
  expect(result.captions).toHaveLength(3)
  expect(result.captions![1]).toEqual({
    ...{ caption: 'caption 2', finish_reason: 'stop', turbine: { output_tokens: 20, ...answer } },
  })
})

test('the seed of another caption is one that a request could have', async () => {
  const { tasks } = await asked({ n: 2, settings: { seed: Number.MAX_SAFE_INTEGER } })
  expect(tasks.map(({ settings }) => settings?.seed)).toEqual([
    Number.MAX_SAFE_INTEGER,
    Number.MIN_SAFE_INTEGER,
  ])
})

test('without a seed the captioner draws them', async () => {
  const { tasks } = await asked({ n: 2 })
  expect(tasks.map(({ settings }) => settings)).toEqual([{}, {}])
})

test('one caption that fails is the failure of all, once all have ended', async () => {
  let running = 0
  const caption = async ({ settings }: CaptionTask): Promise<Captioned> => {
    running++
    await Promise.resolve()
    running--
    if (settings?.seed === 2) throw new Error('no')
    return { caption: 'a', finish_reason: 'stop', turbine: { ...turbine, output_tokens: 1 } }
  }
  const all = ask({ caption }, { images: [Uint8Array.of(1)], lane: 'batch', n: 4, settings: { seed: 1 } })
  await expect(all).rejects.toThrow('no')
  expect(running).toBe(0)
})

test('warnings of the request join those of the image', async () => {
  const { result } = await asked({ warnings: ['text_ignored'] }, { answer: { warnings: ['truncated'] } })
  expect(result.turbine.warnings).toEqual(['truncated', 'text_ignored'])
})

describe('what a request that asks nothing is asked', () => {
  test.each<[string, CaptionAsk['request'], Captioner['byDefault'], object]>([
    ['nothing', undefined, undefined, {}],
    ['the text', undefined, { text: 'd' }, { text: 'd' }],
    ['the text, with its beginning', { beginning: 'b' }, { text: 'd' }, { text: 'd', beginning: 'b' }],
    ['the text, with its system text', { system: 's' }, { text: 'd' }, { text: 'd', system: 's' }],
    ['its own text', { text: 't' }, { text: 'd' }, { text: 't' }],
    ['its own task', { task: '<OD>' }, { task: '<CAPTION>' }, { task: '<OD>' }],
    ['the beginning', {}, { beginning: 'd' }, { beginning: 'd' }],
    ['its own beginning', { beginning: 'b' }, { beginning: 'd' }, { beginning: 'b' }],
  ])('%s', async (_name, request, byDefault, expected) => {
    expect((await asked({ request }, { byDefault })).tasks[0]!.request).toEqual(expected)
  })
})

test('the texts of several captions are told apart as they grow', async () => {
  const told: unknown[] = []
  const { tasks } = await asked({ n: 2, onText: (...text) => told.push(text) })
  tasks[1]!.onText!('the')
  tasks[0]!.onText!('a')
  expect(told).toEqual([
    [1, 'the'],
    [0, 'a'],
  ])
})
