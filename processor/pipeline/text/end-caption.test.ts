import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type EndOptions, endCaption, growingCaption } from './end-caption.ts'

const vocabulary = ['[PAD]', '[START]', '[END]', 'a', 'red', 'fish', '##es', 'and', 'cat']

/** Decodes as a tokenizer of word pieces does. */
const decode = (ids: number[]) =>
  ids
    .filter((id) => id > 2)
    .map((id) => vocabulary[id]!)
    .join(' ')
    .replaceAll(' ##', '')
/** Ids of start, words and end. */
const idsOf = (text: string) => text.split(' ').map((word) => vocabulary.indexOf(word))
const whole = '[START] a red fish ##es and a cat'

const end = (text: string, options: Partial<EndOptions> = {}) => {
  const ids = idsOf(text)
  const begun = options.begun ?? 1
  const ended = ids.slice(begun).includes(2)
  return endCaption(ids, { decode, begun, ended, ...options })
}

test.each([
  [`${whole} [END]`, {}, { text: 'a red fishes and a cat', finishReason: 'stop', tokens: 8 }],
  [whole, {}, { text: 'a red fishes and a cat', finishReason: 'length', tokens: 7 }],
  ['[START] a', {}, { text: 'a', finishReason: 'length', tokens: 1 }],
  ['[START] [END]', {}, { text: '', finishReason: 'stop', tokens: 1 }],
  // An end id in the prompt is no end.
  ['[START] a [END]', { begun: 3 }, { text: 'a', finishReason: 'length', tokens: 0 }],
  [`${whole} [END]`, { stop: ['dog'] }, { text: 'a red fishes and a cat', finishReason: 'stop', tokens: 8 }],
  [`${whole} [END]`, { stop: [' and'] }, { text: 'a red fishes', finishReason: 'stop', tokens: 5 }],
  [whole, { stop: ['and', 'fish'] }, { text: 'a red ', finishReason: 'stop', tokens: 3 }],
  // Within and across tokens.
  [whole, { stop: ['hes an'] }, { text: 'a red fis', finishReason: 'stop', tokens: 5 }],
  [whole, { stop: ['a'] }, { text: '', finishReason: 'stop', tokens: 1 }],
  // The prompt is no part of what is searched.
  [whole, { stop: ['red'], begun: 3 }, { text: 'a red fishes and a cat', finishReason: 'length', tokens: 5 }],
  [whole, { stop: ['a'], begun: 3 }, { text: 'a red fishes ', finishReason: 'stop', tokens: 3 }],
  [whole, { stop: ['cat'] }, { text: 'a red fishes and a ', finishReason: 'stop', tokens: 7 }],
  [whole, { stop: ['A', 'RED'] }, { text: 'a red fishes and a cat', finishReason: 'length', tokens: 7 }],
])('%s with %j', (text, options, expected) => expect(end(text, options)).toEqual(expected))

test.each([
  ['a loop', { endLoops: true }, 'The image shows a dog and', 'stop', true],
  ['a loop that is left', {}, `The image shows a dog${' and a dog'.repeat(5)}`, 'stop', undefined],
  ['an opening', { openings: ['the image shows'] }, `A dog${' and a dog'.repeat(5)}`, 'stop', undefined],
  ['both', { endLoops: true, openings: ['the image shows'] }, 'A dog and', 'stop', true],
  ['a stop before', { endLoops: true, stop: ['and'] }, 'The image shows a dog ', 'stop', undefined],
])('by its rules, %s', (_, rules, text, finishReason, repeated) => {
  const words = `The image shows a dog${' and a dog'.repeat(5)}`.split(' ')
  const decode = (ids: number[]) => ids.map((id) => words[id]).join(' ')
  const ids = words.map((_, index) => index)
  expect(endCaption(ids, { decode, begun: 0, ended: true, ...rules })).toMatchObject({
    text,
    finishReason,
    ...(repeated && { repeated }),
  })
})

test.each([
  ['cut by its limit', false, 'A dog.', 'length'],
  ['that ended', true, 'A dog. A cat sits', 'stop'],
])('whole sentences of a caption %s', (_, ended, text, finishReason) => {
  const decode = (ids: number[]) => (ids.length > 0 ? 'A dog. A cat sits' : '')
  const caption = endCaption([1, 2, 3], { decode, begun: 0, ended, wholeSentences: true })
  expect(caption).toEqual({ text, finishReason, tokens: 3 })
})

test('a caption that grows is over where its rules end it', () => {
  const words = 'A dog and a cat and a cat and a cat and a cat'.split(' ')
  const decode = (ids: number[]) => ids.map((id) => words[id]).join(' ')
  const grown = (count: number, rules = {}) =>
    growingCaption({ decode, begun: 0, ...rules })([...words.keys()].slice(0, count))
  expect(grown(2)).toEqual({ text: 'A dog', isOver: false })
  expect(grown(5, { stop: ['cat'] })).toEqual({ text: 'A dog and a ', isOver: true })
  expect(grown(14, { endLoops: true })).toEqual({ text: 'A dog and a cat', isOver: true })
  expect(grown(9, { endLoops: true })).toEqual({ text: 'A dog and a cat', isOver: false })
  expect(grown(2, { wholeSentences: true })).toEqual({ text: '', isOver: false })
})

const piece = fc.constantFrom(
  ...[
    'The image shows',
    ' the image shows',
    'In this image,',
    ' a',
    ' A',
    ' dog',
    ' dogs',
    "'",
    's',
    ' and',
    ',',
  ],
  ...['.', ' e.g.', '?"', ' 3', '-', ' EN', 'D', '🐶', '猫', '。', '\n', ' very'],
)
/** A text whose end repeats itself, often to the full. */
const caption = fc
  .tuple(fc.array(piece, { maxLength: 10 }), fc.array(piece, { maxLength: 5 }), fc.nat(8))
  .chain(([head, phrase, times]) =>
    fc
      .array(piece, { maxLength: 4 })
      .map((tail) => [...head, ...Array(times).fill(phrase).flat(), ...tail].join('')),
  )

test('a caption that grows never shows what is taken back', () => {
  const decode = (bytes: number[]) => new TextDecoder().decode(Uint8Array.from(bytes))
  const rules = fc.record({
    stop: fc.constantFrom(undefined, ['END'], ['END', 'N']),
    openings: fc.constantFrom([], ['The image shows', 'In this image,']),
    endLoops: fc.boolean(),
    wholeSentences: fc.boolean(),
  })
  fc.assert(
    fc.property(caption, rules, fc.boolean(), fc.integer({ min: 1, max: 9 }), (text, rules, ended, chunk) => {
      const ids = [...new TextEncoder().encode(text)]
      const options = { ...rules, decode, begun: 0 }
      const grow = growingCaption(options)
      const shown: string[] = []
      let end = 0
      for (let isOver = false; !isOver && end < ids.length; ) {
        end = Math.min(ids.length, end + chunk)
        const grown = grow(ids.slice(0, end))
        shown.push(grown.text)
        isOver = grown.isOver
      }
      // What is made before the row leaves counts too.
      const made = ids.slice(0, end + chunk)
      const final = endCaption(made, { ...options, ended }).text
      for (const each of shown) expect(final.startsWith(each), `${each} | ${final}`).toBe(true)
    }),
    { numRuns: 1000 },
  )
})
