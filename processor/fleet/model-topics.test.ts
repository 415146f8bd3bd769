import { expect, test } from 'vitest'
import { jobTopic } from '../../edge/contract/topics.ts'
import { StreamUnavailableError, UnknownTopicError } from '../../infra/stream/stream.ts'
import { modelTopics } from './model-topics.ts'

/** A stream with topics of these models. */
function streamOf(...models: string[]) {
  const topics = new Set(
    models.flatMap((id) => [jobTopic('interactive', id).topic, jobTopic('batch', id).topic]),
  )
  return {
    topics,
    lag: async (topic: string) => {
      if (!topics.has(topic)) throw new UnknownTopicError('Unknown topic.')
      return 0
    },
    ensureTopics: async (layout: object) => {
      for (const topic of Object.keys(layout)) topics.add(topic)
    },
  }
}

const own = { own: true, shared: false }
const shared = { own: false, shared: true }
const both = { own: true, shared: true }

test.each([
  ['the only model of a fleet', ['a'], [], false, [shared]],
  ['one with topics of its own', ['a'], ['a'], false, [own]],
  ['several in one processor', ['a', 'b'], [], false, [shared, own]],
  ['several with topics', ['a', 'b'], ['a', 'b'], false, [own, own]],
  ['the only model of one process', ['a'], [], true, [shared]],
  ['several in one process', ['a', 'b', 'c'], [], true, [shared, own, own]],
  ['those in another order than before', ['b', 'a'], ['b'], true, [both, own]],
])('%s', async (_name, models, exist, embedded, expected) => {
  const stream = streamOf(...exist)
  const placed = await modelTopics(models, { stream, partitions: 2, embedded })
  expect(placed).toEqual(expected.map((topics, index) => ({ model: models[index], ...topics })))
  // What is to be consumed is there.
  for (const { model, own } of placed) expect(stream.topics.has(jobTopic('batch', model).topic)).toBe(own)
})

test('one of two topics does not count', async () => {
  const stream = streamOf('a')
  stream.topics.delete(jobTopic('batch', 'a').topic)
  expect(await modelTopics(['a'], { stream, partitions: 2, embedded: false })).toMatchObject([shared])
})

test('what cannot be asked is not guessed', async () => {
  const lag = () => Promise.reject(new StreamUnavailableError('away'))
  const placing = modelTopics(['a'], { stream: { ...streamOf(), lag }, partitions: 2, embedded: false })
  await expect(placing).rejects.toThrow('away')
})
