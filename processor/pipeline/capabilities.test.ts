import { describe, expect, test } from 'vitest'
import { blipCapabilities, type Capabilities, capabilitiesSchema } from '../../edge/contract/model.ts'
import type { CaptionModel } from '../models/model.ts'
import { askedByDefault, capabilitiesOf } from './capabilities.ts'

const blip = {
  ...{ family: 'blip', follows: 'none', maxPictures: 1, honours: ['maxTokens'] },
  runner: { kind: 'captioner', lengths: 'equal', height: 8, width: 8, endId: 1 },
  picture: { kind: 'squash', height: 8, width: 8, resample: 'bicubic', exact: true },
} satisfies Partial<CaptionModel>

describe('what a model can', () => {
  test('is as earlier versions announced it for one that only captions', () => {
    expect(capabilitiesOf(blip as never)).toEqual(blipCapabilities)
  })

  test('has the parameters whose settings it honours', () => {
    const honours = ['temperature', 'topP', 'beams', 'noRepeatNgram'] as const
    const can = capabilitiesOf({
      ...blip,
      honours,
      follows: 'tasks',
      tasks: ['<OD>'],
      textTasks: ['<PHRASE>'],
    } as never)
    expect(can.parameters).toEqual(['n', 'temperature', 'top_p', 'no_repeat_ngram_size', 'num_beams'])
    expect(capabilitiesSchema.parse(can)).toEqual(can)
    expect(can).toMatchObject({
      follows_text: 'tasks',
      tasks: ['<OD>', '<PHRASE>'],
      text_tasks: ['<PHRASE>'],
    })
  })

  test.each([
    [{ kind: 'patches', patch: 14, merge: 2, minPixels: 3136, maxPixels: 1_003_520 }, 1_003_520],
    [{ kind: 'tiles', longestEdge: 2048, tile: 512, split: true }, 2048 * 2048],
    [{ kind: 'tiles', longestEdge: 2048, tile: 512, split: false }, undefined],
    [{ kind: 'crop', shortest: 224, height: 224, width: 224 }, undefined],
  ])('is to see pictures of %j in up to %s pixels', (picture, expected) => {
    expect(capabilitiesOf({ ...blip, picture } as never).max_pixels).toBe(expected)
  })

  test('is to give out tags', () => {
    const tagger = { ...blip, runner: { kind: 'tagger', lengths: 'equal', vision: { unit: [8, 8, 3] } } }
    expect(capabilitiesOf(tagger as never).output).toBe('tags')
  })
})

describe('TURBINE_PROMPT', () => {
  const instructed: Capabilities = { ...blipCapabilities, follows_text: 'instructions' }
  const tasked: Capabilities = { ...blipCapabilities, follows_text: 'tasks', tasks: ['<CAPTION>'] }
  test.each([
    ['Describe it.', instructed, { text: 'Describe it.' }],
    ['<CAPTION>', tasked, { task: '<CAPTION>' }],
    ['a photo of', blipCapabilities, { beginning: 'a photo of' }],
    [undefined, instructed, undefined],
  ])('%s', (prompt, can, expected) => {
    expect(askedByDefault({ id: 'm', can }, prompt)).toEqual(expected)
  })

  test.each([
    ['Describe it.', tasked, 'Its tasks: <CAPTION>'],
    ['x'.repeat(300), blipCapabilities, 'at most 200'],
    ['a photo of', { ...blipCapabilities, output: 'tags' as const }, /does not follow it\.$/],
  ])('%s cannot be followed', (prompt, can, message) => {
    expect(() => askedByDefault({ id: 'm', can }, prompt)).toThrow(message)
  })
})
