import { expect, test } from 'vitest'
import { type EndOptions, endCaption } from './end-caption.ts'

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
