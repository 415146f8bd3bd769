import { expect, test } from 'vitest'
import { findingsOf, type TopicState } from './topics.ts'

const dayMs = 86_400_000
const asked = { partitions: 12, retentionMs: dayMs, maxMessageBytes: 8_000_000, groups: ['workers'] }
const good: TopicState = {
  partitions: 12,
  retentionMs: dayMs,
  maxMessageBytes: 8_000_000,
  uncommitted: {},
  singleCopy: false,
}

test('a topic that is as asked for, or more, has no findings', () => {
  expect(findingsOf('jobs', asked, good)).toEqual([])
  const more = { ...good, partitions: 24, retentionMs: -1, maxMessageBytes: 16_000_000 }
  expect(findingsOf('jobs', asked, more)).toEqual([])
})

test('a topic that is missing has one finding', () => {
  expect(findingsOf('jobs', asked, undefined)).toEqual(['does not exist: npx turbine topics create'])
})

test.each<[keyof TopicState, Partial<TopicState>, RegExp]>([
  ['partitions', { partitions: 4 }, /4 partitions of 12.*--topic jobs --partitions 12/],
  ['retentionMs', { retentionMs: 1000 }, /retention\.ms is 1000.*turbine topics create/],
  ['maxMessageBytes', { maxMessageBytes: 1_048_588 }, /max\.message\.bytes is 1048588, less than 8000000/],
  ['uncommitted', { uncommitted: { workers: 3 } }, /group workers.*3 partitions/],
  ['singleCopy', { singleCopy: true }, /one copy/],
])('names what is wrong with %s, and what to do', (_, state, finding) => {
  const findings = findingsOf('jobs', asked, { ...good, ...state })
  expect(findings).toHaveLength(1)
  expect(findings[0]).toMatch(finding)
})

test('a topic has to take what producers put into one batch, also when nothing is asked for', () => {
  const findings = findingsOf('jobs', { partitions: 1 }, { ...good, maxMessageBytes: 500_000 })
  expect(findings).toEqual([expect.stringMatching(/max\.message\.bytes is 500000, less than 1000000/)])
})
