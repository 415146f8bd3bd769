import { afterEach, expect, test } from 'vitest'
import type { ServedModel } from '../../edge/contract/model.ts'
import { jobTopic, topics } from '../../edge/contract/topics.ts'
import type { ConsumeOptions, StreamRecord } from '../../infra/stream/stream.ts'
import { consumed } from '../delivery/record.fixture.ts'
import { moveLeftOver } from './left-over.ts'

const day = 24 * 3_600_000
const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

const summary = { object: 'model' as const, created: 0, owned_by: 'turbine' }
const served = (id: string, ownTopics: boolean, age = 0): ServedModel => ({
  model: { ...summary, id, turbine: { image_size: 1, device: 'cpu', tokens_in: 1, prune_levels: [] } },
  ...{ throughput: 1, ownTopics, seenAt: 10 * day - age },
})

/** A planner in a fleet of these models. */
function planner(...models: ServedModel[]) {
  const state = { models }
  const open = new Map<string, ConsumeOptions>()
  const sent: { topic: string; record: StreamRecord }[] = []
  let wake = () => {}
  const mover = moveLeftOver({
    stream: {
      consume: async (options) => {
        open.set(options.topic, options)
        return {
          ...{ inFlight: 0, full: false },
          close: async () => void open.delete(options.topic),
        }
      },
      send: async (topic, [record]) => void sent.push({ topic, record: record! }),
    },
    models: async () => state.models,
    ownTopics: async (id) => state.models.some(({ model, ownTopics }) => ownTopics && model.id === id),
    now: () => 10 * day,
    sleep: (_, signal) =>
      new Promise((resolve) => {
        wake = () => resolve()
        signal.addEventListener('abort', () => resolve())
      }),
    log: { warn() {} },
  })
  closers.push(() => mover.close())
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    ...{ sent, open, mover, settle },
    async look(...next: ServedModel[]) {
      await settle()
      state.models = next
      wake()
      await settle()
    },
    move: (model: string) =>
      open
        .get(topics.interactive)!
        .handle(
          consumed({ headers: { model }, key: 'cap_1' }, { topic: topics.interactive }),
          new AbortController().signal,
        ),
  }
}

test.each([
  ['nobody serves anything', [], false],
  ['one model has the shared topics', [served('a', false)], false],
  ['another one has them beside', [served('a', true), served('b', false)], false],
  ['it has been away for hours', [served('a', true), served('b', false, day / 2)], false],
  ['all have topics of their own', [served('a', true), served('b', true)], true],
  ['who had them is gone', [served('a', true), served('b', false, 2 * day)], true],
])('where $0, the shared topics are emptied: $2', async (_name, models, expected) => {
  const { open, settle } = planner(...models)
  await settle()
  expect([...open.keys()]).toEqual(expected ? [topics.interactive, topics.batch] : [])
})

test('a record is moved to its model, or to the dead letters if nobody has it', async () => {
  const { sent, settle, move } = planner(served('a', true))
  await settle()
  await move('a')
  for (const _ of [1, 2]) await expect(move('unknown')).rejects.toThrow('nobody serves it')
  await move('unknown')
  expect(sent.map(({ topic }) => topic)).toEqual([jobTopic('interactive', 'a').topic, topics.deadLetter])
  expect(sent[1]!.record.headers).toMatchObject({ model: 'unknown', 'origin-topic': topics.interactive })
})

test('it ends when a model needs the shared topics, and with the planner', async () => {
  const { open, look, mover, settle } = planner(served('a', true))
  await settle()
  expect(open.size).toBe(2)
  await look(served('a', true), served('b', false))
  expect(open.size).toBe(0)
  await look(served('a', true))
  expect(open.size).toBe(2)
  await mover.close()
  expect(open.size).toBe(0)
})
