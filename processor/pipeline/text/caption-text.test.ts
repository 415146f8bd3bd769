import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { loopEnd, wholeSentences, withoutLoop, withoutOpening } from './caption-text.ts'
import { SettledText } from './growing-text.ts'

describe('withoutLoop', () => {
  test.each([
    ['words', `a cat ${'very '.repeat(12)}large`, 'a cat very'],
    ['a phrase', 'a dog and a dog and a dog and a dog and a dog', 'a dog and'],
    ['a phrase with commas', 'A car, a tree, a tree, a tree, a tree, a tree', 'A car, a tree'],
    [
      'a long phrase that comes twice',
      'a man who stands on a beach a man who stands on a beach',
      'a man who stands on a beach',
    ],
    [
      'a sentence that comes twice',
      'A red car. The sky is blue. The sky is blue.',
      'A red car. The sky is blue.',
    ],
    [
      'sentences that take turns',
      `Up it goes. ${'It is red. It is blue. '.repeat(4)}`,
      'Up it goes. It is red. It is blue.',
    ],
    ['another case', 'The sky is blue. the sky is blue. THE SKY IS BLUE.', 'The sky is blue.'],
    [
      'a loop that the limit cut',
      'On the left a bowl on the left a bowl on the left a',
      'On the left a bowl',
    ],
    ['marks', `Look!${'!'.repeat(30)}`, 'Look!'],
    ['numbers', '0 0 0 0 0 0 0 0 0 0', '0'],
    [
      'a script without spaces',
      '一只猫坐在沙发上。一只猫坐在沙发上。一只猫坐在沙发上。',
      '一只猫坐在沙发上。',
    ],
    ['another', 'ネコがいるネコがいるネコがいるネコがいる', 'ネコがいる'],
    ['Cyrillic', 'кот и собака и собака и собака и собака и собака', 'кот и собака'],
    ['emoji', '🐶🐶🐶🐶🐶🐶🐶🐶🐶🐶', '🐶'],
    ['lines', '- a cup\n- a cup\n- a cup\n- a cup\n- a cup', '- a cup'],
  ])('ends a loop of %s', (_, text, expected) => expect(withoutLoop(text)).toBe(expected))

  test.each([
    '',
    'a dog',
    'a very, very, very large dog',
    'a red car and a red bus and a red bike on a street',
    'No. No. No.',
    'The first is red. The second is red. The third is red.',
    'New York, New York',
    'a black and white photo of a black and white cat',
    'The sign reads "10 10 10".',
    '一只猫坐在沙发上，一只狗坐在地上。',
    'A table:\n1 0 0 0 0 0 0 0',
    'Title\n==========\nA dog......',
    '| a | b |\n| - | - | - | - | - | - | - |',
    '***  ***  ***',
  ])('leaves "%s" alone', (text) => expect(withoutLoop(text)).toBeUndefined())

  test('ends every loop of different words, and takes nothing before it', () => {
    const word = fc.stringMatching(/^[a-z]{3,8}$/)
    fc.assert(
      fc.property(
        fc.uniqueArray(word, { minLength: 4, maxLength: 9 }),
        fc.integer({ min: 1, max: 3 }),
        (all, before) => {
          const [head, phrase] = [all.slice(0, before), all.slice(before)]
          const text = [...head, ...Array.from({ length: 8 }, () => phrase).flat()].join(' ')
          expect(withoutLoop(text)).toBe(all.join(' '))
        },
      ),
    )
  })

  test('takes no longer for a long text than a caption may', () => {
    const text = Array.from({ length: 3000 }, (_, index) => `w${index}`).join(' ')
    expect(loopEnd(text)).toBeUndefined()
  })
})

describe('withoutOpening', () => {
  const openings = [
    'The image shows',
    'This image depicts…',
    'In this image,',
    'we can see',
    'the image shows that',
    '图片显示',
  ]
  test.each([
    ['The image shows a dog.', 'A dog.'],
    ['the image shows a dog', 'a dog'],
    ['THE IMAGE SHOWS: a dog', 'A dog'],
    ['This image depicts a dog', 'A dog'],
    ['In this image, we can see a dog', 'A dog'],
    ['The image shows that it rains', 'It rains'],
    ['  The image shows "stop" on a sign', '"Stop" on a sign'],
    ['The image shows 3 dogs', '3 dogs'],
    ['The image shows Émile', 'Émile'],
    ['The image shows élan', 'Élan'],
    ['图片显示一只猫', '一只猫'],
    ['The image showsoff', 'The image showsoff'],
    ['The image shows', 'The image shows'],
    ['The image shows.', 'The image shows.'],
    ['A dog. The image shows a dog.', 'A dog. The image shows a dog.'],
    ['', ''],
  ])('%s', (text, expected) => expect(withoutOpening(text, openings)).toBe(expected))

  test('nothing is stripped without a list, nor by an empty entry', () => {
    for (const list of [[], ['', '…', ' ']])
      expect(withoutOpening('The image shows a dog', list)).toBe('The image shows a dog')
  })
})

test.each([
  ['A dog. A cat sits on', 'A dog.'],
  ['A dog. A cat sits.', 'A dog. A cat sits.'],
  ['A dog on a', 'A dog on a'],
  ['He says "Stop!" The car', 'He says "Stop!"'],
  ['Is it a dog? It is 3.5 m', 'Is it a dog?'],
  ['一只猫。一只狗在', '一只猫。'],
  ['एक बिल्ली है। और', 'एक बिल्ली है।'],
  ['Is it so? هل هذا كلب؟ نعم', 'Is it so? هل هذا كلب؟'],
  ['A dog. It belongs to Mr. Smith who', 'A dog.'],
  ['A photo of St. Mark', 'A photo of St. Mark'],
  ['A man. George W. Bush stands', 'A man.'],
  ['1. A cat.\n2. A do', '1. A cat.'],
  ['Sold for 3.5 or e.g. 4', 'Sold for 3.5 or e.g. 4'],
  ['', ''],
])('whole sentences of "%s"', (text, expected) => expect(wholeSentences(text)).toBe(expected))

describe('SettledText', () => {
  const openings = ['The image shows', 'In this image,', 'we can see']
  const shown = (text: string, stop?: string[]) => new SettledText({ openings, stop }).of(text)

  test.each([
    ['The im', ''],
    ['The image shows', ''],
    ['The image shows a', 'A'],
    ['In this image, we can', ''],
    ['In this image, we can see a dog', 'A dog'],
    ['There', 'There'],
    ['a d\uFFFD', 'a d'],
    ['', ''],
  ])('of "%s"', (text, expected) => expect(shown(text)).toBe(expected))

  test('holds back what may end it', () => {
    expect(shown('A dog. EN', ['END'])).toBe('A dog. ')
    expect(shown('A dog. ENT', ['END'])).toBe('A dog. ENT')
  })

  test('never shows what is taken back', () => {
    const part = fc.constantFrom(
      'The image shows',
      ' the image shows',
      'In this image,',
      ' we can see',
      ' a',
      ' dog',
      '.',
      ' EN',
      'D',
      '🐶',
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const text = parts.join('')
        const cut = text.indexOf('END')
        const final = withoutOpening(cut < 0 ? text : text.slice(0, cut), openings)
        for (let end = 0; end <= text.length; end++) {
          const so = text.slice(0, end)
          if (!so.includes('END'))
            expect(final.startsWith(shown(so, ['END'])) || shown(so, ['END']) === '').toBe(true)
        }
      }),
      { numRuns: 500 },
    )
  })
})
