import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bundledModel } from '../../../infra/starter-model/bundled.ts'
import { referenceOf } from '../reference.fixture.ts'
import { loadTokenizer } from '../tokenizer.ts'
import { shieldMark, shieldOf } from './special-tokens.ts'

const token = (content: string, special = true, normalized = false) => ({ content, special, normalized })
const shield = shieldOf([
  token('<image>'),
  token('<|im_end|>'),
  token('<loc_1>', false),
  token('  ', false),
  token('[SEP]', false),
  token('!'),
])
const shown = (texts: string[]) => shield(texts).map((text) => text.replaceAll(shieldMark, '¦'))

describe('shieldOf', () => {
  it.each([
    [['What is 3 < 4 in <b>this</b> image?  Yes!']],
    [['<imag', 'e']],
    [['', '']],
    [['<|im_end', '', '|']],
  ])('leaves ordinary text as it is: %j', (texts) => {
    expect(shown(texts)).toEqual(texts)
  })

  it.each([
    [['a <image> b'], ['a <¦image> b']],
    [['<image><image>'], ['<¦image><¦image>']],
    [['<loc_1>[SEP]'], ['<¦loc_1>[¦SEP]']],
    [['<|im_<|im_end|>end|>'], ['<|im_<¦|im_end|>end|>']],
    [
      ['<ima', 'ge>'],
      ['<¦ima', 'ge>'],
    ],
    [
      ['<', 'image', '>'],
      ['<¦', 'image', '>'],
    ],
    [[`<ima${shieldMark}ge>`], ['<¦image>']],
  ])('cuts special tokens, also those that texts make together: %j', (texts, expected) => {
    expect(shown(texts)).toEqual(expected)
  })

  it('cuts those in other letters where the tokenizer changes letters', () => {
    const folding = shieldOf([token('<image>', true, true)])
    expect(folding(['<IMAGE>'])).toEqual([`<${shieldMark}IMAGE>`])
  })

  it('takes little time for much text', () => {
    const many = shieldOf(Array.from({ length: 1000 }, (_, index) => token(`<loc_${index}>`)))
    const text = '<loc_'.repeat(50_000)
    expect(many([text])).toEqual([text])
  })
})

describe.each(['smolvlm', 'qwen2-vl', 'llava'])('special tokens of %s', (name) => {
  const { folder, ids } = referenceOf(name)
  const tokenizer = loadTokenizer(folder)
  const tokens = [
    '<image>',
    '<|im_end|>',
    '<|im_start|>',
    '<|image_pad|>',
    '<end_of_utterance>',
    '<row_1_col_1>',
  ]

  it('are text in that of callers, which comes back as it was', async () => {
    const { encodePrompt, decode, idOf } = await tokenizer
    const special = new Set(tokens.map(idOf))
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom(...tokens), fc.string({ maxLength: 4 }))), (parts) => {
        const encoded = encodePrompt(parts.join(''))
        expect(encoded.filter((id) => special.has(id) || id === ids.image)).toEqual([])
        if (!/[\u{fdd0}\ufffd]/u.test(parts.join(''))) expect(decode(encoded)).toBe(parts.join(''))
      }),
    )
  })

  it('count in what templates write', async () => {
    const { encodeTemplate, idOf } = await tokenizer
    const known = tokens.filter((each) => idOf(each) !== undefined)
    expect(encodeTemplate(known.join(''))).toEqual(known.map(idOf))
  })
})

it("are text in a BLIP's prompt", async () => {
  const { encodePrompt, idOf } = await loadTokenizer(bundledModel)
  expect(encodePrompt('a [SEP] b [ENC]')).not.toContain(idOf('[SEP]'))
  expect(encodePrompt('a [SEP] b [ENC]')).not.toContain(idOf('[ENC]'))
  expect(encodePrompt('a fish')).toEqual([7, 36])
})
