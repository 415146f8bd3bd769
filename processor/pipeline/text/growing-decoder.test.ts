import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bundledModel } from '../../../infra/starter-model/folder.ts'
import { loadTokenizer } from '../../models/tokenizer.ts'
import { GrowingDecoder } from './growing-decoder.ts'

const fixtures = join(import.meta.dirname, '../../../test/fixtures/models')

describe.each([
  ...['smolvlm', 'llava', 'florence2', 'qwen2-vl', 'vit-gpt2'].map((name) => [name, join(fixtures, name)]),
  ['word pieces', bundledModel],
])('the tokenizer of %s', (_, folder) => {
  test('decodes ids one behind the other as all at once', async () => {
    const { decode, size, encodePrompt } = await loadTokenizer(folder!)
    const texts = ['A dog, and a cat.', "don't 'quote' it 's", '猫が🐶', ' \n\n- a\n- b', '1,234.5']
    const id = fc.oneof(
      fc.integer({ min: 0, max: size - 1 }).map((each) => [each]),
      fc.constantFrom(...texts).map(encodePrompt),
    )
    fc.assert(
      fc.property(fc.array(id, { maxLength: 120 }), fc.integer({ min: 1, max: 9 }), (parts, chunk) => {
        const ids = parts.flat()
        const decoder = new GrowingDecoder(decode)
        let before = { text: '', stable: 0 }
        for (let end = chunk; end <= ids.length; end += chunk) {
          const grown = decoder.update(ids.slice(0, end))
          expect(grown.text).toBe(decode(ids.slice(0, end)))
          expect(grown.text.slice(0, before.stable)).toBe(before.text.slice(0, before.stable))
          before = grown
        }
      }),
      { numRuns: 60 },
    )
  })
})

test('looks at new ids alone', async () => {
  const { decode, encodePrompt } = await loadTokenizer(join(fixtures, 'smolvlm'))
  let decoded = 0
  const decoder = new GrowingDecoder((ids) => {
    decoded += ids.length
    return decode(ids)
  })
  const ids = Array.from({ length: 400 }, (_, at) => encodePrompt(`word ${at}, `)).flat()
  for (let end = 4; end <= ids.length; end += 4) decoder.update(ids.slice(0, end))
  expect(decoded).toBeLessThan(30 * ids.length)
})

test('other ids are another text', () => {
  const decoder = new GrowingDecoder((ids) => String.fromCharCode(...ids))
  const ids = Array.from({ length: 100 }, (_, at) => 65 + (at % 26))
  decoder.update(ids)
  const others = ids.toReversed()
  expect(decoder.update(others).text).toBe(String.fromCharCode(...others))
  expect(decoder.update([90]).text).toBe('Z')
})
