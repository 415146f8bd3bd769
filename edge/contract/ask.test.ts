import { describe, expect, test } from 'vitest'
import { type Asked, type AskLimits, fitAsk } from './ask.ts'
import { TurbineError } from './errors.ts'
import { blipCapabilities, type Capabilities } from './model.ts'

const instructed: Capabilities = {
  ...blipCapabilities,
  family: 'smolvlm',
  follows_text: 'instructions',
  max_images: 4,
}
const tasked: Capabilities = {
  ...blipCapabilities,
  family: 'florence2',
  follows_text: 'tasks',
  tasks: ['<CAPTION>', '<CAPTION_TO_PHRASE_GROUNDING>', '<DETAILED_CAPTION>'],
  text_tasks: ['<CAPTION_TO_PHRASE_GROUNDING>'],
}

/** What a model is asked, or the code and the field of the error. */
function fitted(asked: Partial<Asked>, can: Capabilities, limits?: AskLimits) {
  try {
    return fitAsk(
      { imageUrls: ['https://example.com/a.jpg'], generation: {}, ...asked },
      { id: 'm', can },
      limits,
    )
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { code: error.code, param: error.param, message: error.message }
  }
}

const ignored: string[] = []
const warnings = ['text_ignored']

describe('a model that follows no text', () => {
  test.each<[string, Partial<Asked>, object]>([
    ['nothing', {}, { ignored }],
    ['a prompt', { prompt: 'a photo of' }, { request: { beginning: 'a photo of' }, ignored }],
    ['a beginning', { beginning: 'a photo' }, { request: { beginning: 'a photo' }, ignored }],
    ['text', { text: 'What is this?' }, { warnings, ignored }],
    ['system text', { system: 'Be brief.' }, { warnings, ignored }],
    [
      'both, and a beginning',
      { text: 'a', beginning: 'b' },
      { request: { beginning: 'b' }, warnings, ignored },
    ],
    ['text of any length', { text: 'x'.repeat(1e6) }, { warnings, ignored }],
    ['white space', { text: ' \n', system: '\t', prompt: '' }, { ignored }],
  ])('%s', (_name, asked, expected) => {
    expect(fitted(asked, blipCapabilities)).toEqual(expected)
  })

  test.each<[Partial<Asked>, string, string]>([
    [{ task: '<CAPTION>' }, 'unsupported_parameter', 'turbine.task'],
    [{ imageUrls: ['a', 'b'] }, 'too_many_images', 'messages'],
    [{ prompt: 'x'.repeat(201) }, 'prompt_too_long', 'prompt'],
    [{ beginning: 'x'.repeat(201) }, 'prompt_too_long', 'messages'],
  ])('%j is refused', (asked, code, param) => {
    expect(fitted(asked, blipCapabilities)).toMatchObject({ code, param })
  })
})

describe('pixels that a model sees', () => {
  const sized: Capabilities = { ...instructed, max_pixels: 1_000_000 }

  test('are as asked for by a model that sees pictures in more than one size', () => {
    expect(fitted({ maxPixels: 200_000 }, sized)).toEqual({ request: { maxPixels: 200_000 }, ignored })
    expect(fitted({ maxPixels: 200_000, text: 't' }, sized)).toEqual({
      request: { maxPixels: 200_000, text: 't' },
      ignored,
    })
    expect(fitted({}, sized)).toEqual({ ignored })
    expect(fitted({ enoughPixels: 262_144 }, sized)).toEqual({ request: { maxPixels: 262_144 }, ignored })
    expect(fitted({ enoughPixels: 262_144, maxPixels: 9 }, sized)).toEqual({
      request: { maxPixels: 9 },
      ignored,
    })
    for (const can of [instructed, tasked, blipCapabilities])
      expect(fitted({ enoughPixels: 262_144 }, can)).toEqual({ ignored })
  })

  test.each([instructed, tasked, blipCapabilities, { ...blipCapabilities, output: 'tags' as const }])(
    'are refused by name by others, or ignored where the service is set to',
    (can) => {
      expect(fitted({ maxPixels: 200_000 }, can)).toMatchObject({
        code: 'unsupported_parameter',
        param: 'turbine.max_pixels',
        message: expect.stringContaining(`(${can.family}) sees every picture in one size`),
      })
      for (const name of ['*', 'turbine.max_pixels'])
        expect(fitted({ maxPixels: 200_000 }, can, { ignored: [name] })).toEqual({
          ignored: ['turbine.max_pixels'],
        })
    },
  )
})

describe('a tagger', () => {
  test.each<Partial<Asked>>([
    { prompt: 'a photo of' },
    { beginning: 'a photo' },
    { text: 'What is this?' },
    { system: 'Be brief.' },
  ])('reads nothing: %j', (asked) => {
    expect(fitted(asked, { ...blipCapabilities, output: 'tags' })).toEqual({ warnings, ignored })
  })

  test('is not warned of for nothing', () => {
    expect(fitted({ prompt: ' ' }, { ...blipCapabilities, output: 'tags' })).toEqual({ ignored })
    const limited = fitted({ maxTokens: 5, stop: ['x'] }, { ...blipCapabilities, output: 'tags' })
    expect(limited).toEqual({ stop: ['x'], ignored: [...ignored, 'max_tokens'] })
    const drawn = fitted(
      { generation: { seed: 1, temperature: 1 } },
      { ...blipCapabilities, parameters: [], output: 'tags' },
    )
    expect(drawn).toMatchObject({ message: expect.stringMatching(/honours stop;/) })
  })
})

describe('a model that follows instructions', () => {
  test.each<[string, Partial<Asked>, object]>([
    ['nothing', {}, { ignored }],
    ['a prompt', { prompt: 'Describe it.' }, { request: { text: 'Describe it.' }, ignored }],
    [
      'a whole chat',
      { system: 's', text: 't', beginning: 'b' },
      { request: { system: 's', text: 't', beginning: 'b' }, ignored },
    ],
    ['four images', { imageUrls: ['a', 'b', 'c', 'd'] }, { ignored }],
    ['half of a surrogate', { text: 'a\ud800' }, { request: { text: 'a\ufffd' }, ignored }],
  ])('%s', (_name, asked, expected) => {
    expect(fitted(asked, instructed)).toEqual(expected)
  })

  test.each<[Partial<Asked>, AskLimits, string, string, string]>([
    [{ text: 'x'.repeat(8193) }, {}, 'prompt_too_long', 'messages', 'at most 8192'],
    [
      { text: 'x'.repeat(8), system: 'y'.repeat(3) },
      { maxText: 10 },
      'prompt_too_long',
      'messages',
      '11 characters',
    ],
    [{ prompt: 'x'.repeat(11) }, { maxText: 10 }, 'prompt_too_long', 'prompt', 'TURBINE_MAX_TEXT'],
    [
      { imageUrls: Array(5).fill('a') },
      {},
      'too_many_images',
      'messages',
      'the model "m" (smolvlm) takes at most 4',
    ],
    [{ imageUrls: ['a', 'b'] }, { maxImages: 1 }, 'too_many_images', 'messages', 'TURBINE_MAX_IMAGES'],
    [{ task: '<CAPTION>' }, {}, 'unsupported_parameter', 'turbine.task', 'has no tasks'],
  ])('%j with %j is refused', (asked, limits, code, param, message) => {
    expect(fitted(asked, instructed, limits)).toMatchObject({
      code,
      param,
      message: expect.stringContaining(message),
    })
  })
})

describe('a model that has tasks', () => {
  const detailed = { request: { task: '<DETAILED_CAPTION>' }, ignored }
  test.each<[string, Partial<Asked>, object]>([
    ['its name in the text', { text: ' <DETAILED_CAPTION>\n' }, detailed],
    ['its name as the prompt', { prompt: '<DETAILED_CAPTION>' }, detailed],
    ['its name', { task: '<DETAILED_CAPTION>' }, detailed],
    ['its bare name', { task: 'detailed_caption' }, detailed],
    ['its name, twice', { task: 'DETAILED_CAPTION', text: '<DETAILED_CAPTION>' }, detailed],
    ['another text', { text: 'What is this?' }, { warnings, ignored }],
    ['a text behind', { text: '<CAPTION> of this' }, { request: { task: '<CAPTION>' }, warnings, ignored }],
    [
      'a system text',
      { task: 'CAPTION', system: 'a' },
      { request: { task: '<CAPTION>' }, warnings, ignored },
    ],
    [
      'a task that reads text',
      { text: '<CAPTION_TO_PHRASE_GROUNDING>a cat' },
      { request: { task: '<CAPTION_TO_PHRASE_GROUNDING>', text: 'a cat' }, ignored },
    ],
    [
      'a task that reads text, by its name',
      { task: 'caption_to_phrase_grounding', text: 'a cat' },
      { request: { task: '<CAPTION_TO_PHRASE_GROUNDING>', text: 'a cat' }, ignored },
    ],
  ])('%s', (_name, asked, expected) => {
    expect(fitted(asked, tasked)).toEqual(expected)
  })

  test.each<[Partial<Asked>, string, string, string?]>([
    [{ task: '<OD>' }, 'task_unknown', '<CAPTION>, <CAPTION_TO_PHRASE_GROUNDING>, <DETAILED_CAPTION>'],
    [{ task: '' }, 'task_unknown', 'There is no task ""'],
    [{ task: 'CAPTION', text: '<DETAILED_CAPTION>' }, 'invalid_value', 'begins with'],
    [{ text: ' <OD>' }, 'task_unknown', 'There is no task "<OD>"', 'messages'],
    [{ prompt: '<OD> of it' }, 'task_unknown', '<CAPTION>, <CAPTION_TO_PHRASE_GROUNDING>', 'prompt'],
    [{ text: '<CAPTIONS>' }, 'task_unknown', 'There is no task "<CAPTIONS>"', 'messages'],
  ])('%j is refused', (asked, code, message, param = 'turbine.task') => {
    expect(fitted(asked, tasked)).toMatchObject({
      code,
      param,
      message: expect.stringContaining(message),
    })
  })
})

test('what was ignored before is told with what is ignored here', () => {
  const asked = { generation: { temperature: 1, top_p: 0.5 }, ignored: ['width'] }
  expect(fitted(asked, blipCapabilities, { ignored: ['temperature', 'top_p'] })).toEqual({
    ignored: ['width', 'temperature', 'top_p'],
  })
})
