import { expect, it } from 'vitest'
import { droppedLine, levelLines, unreadableLines } from './search.ts'

const level = {
  r: [],
  weight: [],
  tokensOut: 35,
  pruneRatio: 0.827,
  flopShare: 0.267,
  quality: { exact: 0.9917, cider: 0.9974 },
}

it('a table has a line for each level', () => {
  const speed = { at: '', device: 'cpu', batch: 16, images_per_second: [291.4] }
  expect(levelLines([level], speed)).toBe(
    'level  tokens  merged  FLOPs  images/s  equal captions  CIDEr-D\n' +
      '    0      35    83 %   27 %       291          99.2 %   99.7 %\n',
  )
})

it('says why a level was left out', () => {
  const outcome = { ...level, schedule: level, heldOut: { exact: 0.9, cider: 0.95 } }
  expect(droppedLine({ outcome, reason: 'agrees less' })).toBe(
    'Dropped: 35 tokens, 27 % of FLOPs: agrees less (equal captions: 99.2 % when chosen, 90.0 % held out).',
  )
})

it('names a few of the pictures that cannot be read', () => {
  expect(unreadableLines(['a: broken', 'b: broken'])).toEqual(['a: broken', 'b: broken'])
  expect(unreadableLines(['a', 'b', 'c', 'd'], 2)).toEqual(['a', 'b', '... and 2 more are unreadable.'])
})
