import { expect, test } from 'vitest'
import { isJobTopic, jobLayout, jobTopic, topicLayout, topics } from './topics.ts'

test('without a model the topic of a lane is the one that all share', () => {
  expect(jobTopic('batch')).toEqual({ topic: 'turbine.batch', group: 'turbine-processor-batch' })
  expect(jobTopic('interactive').topic).toBe(topics.interactive)
})

test('the topic of a model can be read, and is the same for ever', () => {
  expect(jobTopic('interactive', 'HuggingFaceTB/SmolVLM-256M-Instruct')).toEqual({
    topic: 'turbine.interactive.HuggingFaceTB-SmolVLM-256M-Instruct-52156072fa31',
    group: 'turbine-processor-interactive-HuggingFaceTB-SmolVLM-256M-Instruct-52156072fa31',
  })
})

const odd = [
  'a',
  'A',
  'a/b',
  'a-b',
  'a.b',
  'a_b',
  'a--b',
  '/a/b/',
  '.',
  '..',
  ' ',
  'über/模型',
  '模型',
  '💡',
  'x'.repeat(256),
  `${'x'.repeat(255)}y`,
  'control',
  'turbine.batch.a',
  '\n',
]

test('each of all ids has a topic that Kafka takes, and none that another one has', () => {
  // Kafka has a limit of 249 characters, and one name for dots and underscores in its metrics.
  const names = odd.flatMap((id) => [jobTopic('batch', id), jobTopic('interactive', id)])
  const taken = [...Object.keys(topicLayout()), ...names.map(({ topic }) => topic)]
  for (const { topic, group } of names) {
    expect(topic).toMatch(/^[A-Za-z0-9.-]{1,249}$/)
    expect(group).toMatch(/^[A-Za-z0-9.-]{1,249}$/)
    expect(isJobTopic(topic)).toBe(true)
  }
  expect(new Set(taken.map((topic) => topic.toLowerCase().replaceAll('_', '.'))).size).toBe(taken.length)
})

test.each([
  'turbine.control',
  'turbine.dead-letter',
  'turbine.batch.',
  'turbine.batch.a b',
  'x.turbine.batch',
  '',
])('%j is no topic of jobs', (topic) => expect(isJobTopic(topic)).toBe(false))

test('the topics of a model are as those that are shared, with groups of their own', () => {
  const own = jobLayout(7, 'a/b')
  const { topic, group } = jobTopic('interactive', 'a/b')
  expect(own[topic]).toEqual({ ...topicLayout(7)[topics.interactive], groups: [group] })
  expect(Object.keys(own)).toEqual([topic, jobTopic('batch', 'a/b').topic])
})
