import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { blipCapabilities, type Capabilities } from '../../../edge/contract/model.ts'
import { UsageError } from '../errors.ts'
import { askedBy, askedOptions } from './asked.ts'

const can: Capabilities = {
  ...{
    family: 'florence2',
    follows_text: 'tasks',
    tasks: ['<DETAILED_CAPTION>'],
    max_images: 1,
    output: 'caption',
  },
  parameters: ['temperature', 'top_p', 'top_k', 'seed', 'repetition_penalty', 'num_beams'],
}

/** What a command line asks of a model. */
function asked(args: string[], model: Capabilities = can) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} })
  for (const option of askedOptions()) command.addOption(option)
  return askedBy(command.parse(args, { from: 'user' }).opts(), { model: 'm', can: model }, {
    ignored: ['*'],
  } as object)
}

describe('flags are what every image is captioned with', () => {
  test.each<[string[], object, Capabilities?]>([
    [[], {}],
    [['--task', 'detailed_caption'], { request: { task: '<DETAILED_CAPTION>' } }],
    [['--prompt', '<DETAILED_CAPTION>'], { request: { task: '<DETAILED_CAPTION>' } }],
    [['--prompt', 'a photo of'], { request: { beginning: 'a photo of' } }, blipCapabilities],
    [
      ['--prompt', 'a', '--system', 'b'],
      { request: { text: 'a', system: 'b' } },
      { ...can, follows_text: 'instructions' },
    ],
    [['--max-pixels', '200000'], { request: { maxPixels: 200_000 } }, { ...can, max_pixels: 1_000_000 }],
    [['--max-tokens', '9', '--seed', '-4'], { maxTokens: 9, settings: { seed: -4 } }],
    [
      ['--temperature', '0.5', '--top-p', '0.9', '--top-k', '40', '--repetition-penalty', '1.1'],
      { settings: { temperature: 0.5, topP: 0.9, topK: 40, repetitionPenalty: 1.1 } },
    ],
    [['--num-beams', '3'], { settings: { beams: 3 } }],
    [['--prompt', 'What is this?'], { warnings: ['text_ignored'] }],
  ])('%j', (args, expected, model) => {
    expect(asked(args, model)).toEqual(expected)
  })

  test.each<[string[], string]>([
    [['--temperature', '0.5'], 'honours max_tokens, stop;'],
    [['--task', 'CAPTION'], 'has no tasks'],
    [['--prompt', 'x'.repeat(201)], 'at most 200'],
  ])('%j is refused for a model that cannot do it', (args, message) => {
    expect(() => asked(args, blipCapabilities)).toThrow(UsageError)
    expect(() => asked(args, blipCapabilities)).toThrow(message)
  })

  test('a tagger has no maximum of tokens', () => {
    const tags: Capabilities = { ...blipCapabilities, output: 'tags' }
    expect(() => asked(['--max-tokens', '5'], tags)).toThrow(/--max-tokens: m makes tags/)
  })

  test.each([
    ['--temperature', '3'],
    ['--temperature', ''],
    ['--num-beams', 'x'],
    ['--max-tokens', '0'],
    ['--top-k', '1.5'],
  ])('%s %s is out of its range', (flag, value) => {
    expect(() => asked([flag, value])).toThrow()
  })
})
