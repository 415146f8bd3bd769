import { expect, it } from 'vitest'
import { ciderD } from './cider.ts'

const references = [
  'a small red car in a meadow by day',
  'a large blue fish to the left of a small star at sea at night',
  'a green house',
  'a small red car and a large cloud above a white square in the desert at sunset',
  'a dog runs on the grass with a ball in its mouth',
  'a man riding a wave on top of a surfboard',
  'two birds',
  'cat',
  'a plate of food with a fork and a knife and a glass',
  'a group of people standing around a kitchen',
]
const captions = [
  'a small red car in a meadow by day',
  'a large blue star to the left of a small star at sea at night',
  'a green house house house house',
  'a small red car above a white square in the desert at sunset',
  'the dog is running over green grass',
  'a man on a wave',
  'two two birds',
  'dog',
  'a plate of food with a fork and a knife and a glass and a fork and a knife and a glass',
  'people in a kitchen standing around',
]

// Expected numbers: pycocoevalcap 1.2, Cider().compute_score, one reference each.
it('gives the scores of coco-caption', () => {
  expect(ciderD(references).score(captions)).toBeCloseTo(3.652962498971154, 12)
})

it('gives what equal captions score, which short ones do not fill', () => {
  expect(ciderD(references).best).toBeCloseTo(8.5, 12)
})

it.each([
  [1, 7.7428451368],
  [2, 2.5997395568],
  [3, 5.8671736258],
  [4, 0.5831286332],
  [5, 1.7879151836],
  [6, 3.3027147165],
  [7, 0],
  [8, 1.831918076],
  [9, 2.814190061],
])('caption %i alone', (index, expected) => {
  const others = references.map((reference, i) => (i === index ? captions[index]! : reference))
  const { score, best } = ciderD(references)
  const own = [10, 10, 7.5, 10, 10, 10, 5, 2.5, 10, 10][index]!
  expect((score(others) - best) * references.length + own).toBeCloseTo(expected, 8)
})

it('does not mind letter case, punctuation and spaces', () => {
  const spoken = references.map((text) => ` ${text.toUpperCase().replace(' ', '  ')}.`)
  expect(ciderD(references).score(spoken)).toBeCloseTo(8.5, 12)
})

it('cannot tell captions apart whose words are all the same everywhere', () => {
  expect(ciderD(['a cat', 'a cat']).best).toBe(0)
})

it('refuses captions that do not belong to the references', () => {
  expect(() => ciderD(references).score(['a cat'])).toThrow(RangeError)
})
