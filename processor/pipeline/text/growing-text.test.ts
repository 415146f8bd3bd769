import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { loopEnd } from './caption-text.ts'
import { Repetition, SettledText } from './growing-text.ts'
import { SaidBefore } from './said-before.ts'
import * as whole from './whole-text.fixture.ts'

const piece = fc.constantFrom(
  ...[
    'The image shows',
    ' a',
    ' A',
    ' dog',
    ' dogs',
    "'",
    's',
    "n't",
    ' and',
    ',',
    ', ',
    '.',
    '. ',
    '?"',
    ' e.g.',
    ' U.S.',
  ],
  ...[
    ' 3',
    '3',
    '.5',
    ',',
    '-',
    '—',
    ' EN',
    'D',
    '\n',
    '\n\n',
    ' ',
    '  ',
    '\t',
    '!',
    '! ',
    '…',
    '| ',
    '- ',
    '=',
    ':',
  ],
  ...[
    '🐶',
    '🇩🇪',
    '🇫',
    '👩‍👩‍👧',
    '猫',
    '一只',
    '沙发上',
    '。',
    '，',
    '！',
    'ネコ',
    'が',
    'ー',

    'แมว',
    'นั่ง',
    'кот ',
    'Σ',
    'ΑΣ ',
  ],
  ...['e\u0301', '\u0301', '\uFFFD', '\uFEFF', '한국', '어 ', 'كلب '],
)
/** Text with phrases that come again, here and there, and what ends it. */
const text = fc
  .array(fc.tuple(fc.array(piece, { maxLength: 7 }), fc.integer({ min: 1, max: 12 })), { maxLength: 5 })
  .map((phrases) => phrases.flatMap(([phrase, times]) => Array<string[]>(times).fill(phrase).flat()).join(''))
const rules = fc.record({
  stop: fc.constantFrom([], ['END'], ['a dog', '。']),
  openings: fc.constantFrom([], ['The image shows', 'a dog']),
  endLoops: fc.boolean(),
  wholeSentences: fc.boolean(),
})
const steps = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 })

/** How a text grows: its beginnings, and of each what is certain. */
function growth(all: string, sizes: number[]): { text: string; stable: number }[] {
  const grown: { text: string; stable: number }[] = []
  for (let end = 0, at = 0; end < all.length; at++) {
    const before = end
    end = Math.min(all.length, end + sizes[at % sizes.length]!)
    grown.push({ text: all.slice(0, end), stable: Math.max(0, before - (at % 7)) })
  }
  return grown
}

test('what is read on is as what is read at once', () => {
  fc.assert(
    fc.property(text, rules, steps, (all, given, sizes) => {
      const loop = new Repetition()
      const settled = new SettledText(given, loop)
      for (const { text, stable } of growth(all, sizes)) {
        expect(loop.loopEnd(text, stable)).toBe(whole.loopEnd(text))
        expect(settled.of(text, stable)).toBe(whole.settledText(text, given))
      }
      expect(loopEnd(all)).toBe(whole.loopEnd(all))
    }),
    { numRuns: 400 },
  )
})

test('long texts without spaces or marks are read on as well', () => {
  const words = [
    '一只',
    '猫',
    '坐在',
    '沙发',
    '上面',
    '看着',
    '窗外',
    '小鸟',
    '和',
    '天空',
    '的',
    '云彩',
    '非常',
    '安静',
  ]
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...words), { minLength: 500, maxLength: 700 }), (all) => {
      const loop = new Repetition()
      for (const { text, stable } of growth(all.join(''), [97]))
        expect(loop.loopEnd(text, stable)).toBe(whole.loopEnd(text))
    }),
    { numRuns: 5 },
  )
})

test('what was certain may be taken back all the same', () => {
  const loop = new Repetition()
  const looped = `one two ${'a dog and '.repeat(8)}`
  expect(loop.loopEnd(looped, looped.length)).toBe(whole.loopEnd(looped))
  expect(loop.loopEnd('one two three', 4)).toBeUndefined()
})

test('SaidBefore tells the longest end that was there before', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[abc]{0,40}$/), (all) => {
      const said = new SaidBefore()
      for (let end = 1; end <= all.length; end++) {
        said.add(all[end - 1]!)
        const so = all.slice(0, end)
        let length = end - 1
        while (so.indexOf(so.slice(end - length)) === end - length) length--
        expect(said.length).toBe(length)
      }
    }),
  )
})
