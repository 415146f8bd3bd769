import { expect, test } from 'vitest'
import { blankPicture } from '../engine/batch.fixture.ts'
import { plainRow } from '../engine/batch.ts'
import type { DevicePool } from '../engine/device-pool.ts'
import { greedy } from '../models/generation.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { Executor, groupOf, isTelling } from './executor.ts'

const levels = [
  { pruneRatio: 0, relativeCost: 1 },
  { pruneRatio: 0.8, relativeCost: 0.2 },
]
const samples = [
  { bucket: 1, level: 0, ms: 100 },
  { bucket: 1, level: 1, ms: 20 },
]

/** An executor of one idle device, with ten images upstream that any level may prune. */
async function executorAt(level?: number): Promise<Executor> {
  const model = await openModel(tinyBlip)
  return new Executor({
    model,
    measured: plainRow(model, blankPicture(model.picture)),
    pool: { devices: [{}], maxBatch: 1 } as unknown as DevicePool,
    costs: new CostModel({ levels, buckets: [1], samples }),
    queueLimit: 100,
    interactiveTargetMs: 500,
    upstream: () => [{ deadline: 400, images: 10, maxLevel: 1 }],
    now: () => 0,
    level,
  })
}

test('an image is admitted where pruning can hold the load', async () => {
  expect((await executorAt()).admission({ deadline: 500 })).toEqual({ admitted: true })
})

test('a pinned level counts for what is upstream, which it keeps from being pruned', async () => {
  const pinned = await executorAt(0)
  expect(pinned.admission({ deadline: 500 })).toMatchObject({ admitted: false, reason: 'late' })
})

test.each([
  ['equal', [1, 2, 3], ['1', '2', '3']],
  [
    'padded',
    [1, 2, 3, 4, 5, 100, 128, 129],
    ['1', '2', '4', '4', '8', '128', '128', '256'].map((most) => `up to ${most}`),
  ],
] as const)('rows with %s prompts share a batch by their length', (lengths, given, groups) => {
  const rows = given.map((length) => ({ prompt: { ids: new Array<number>(length).fill(1), places: [] } }))
  expect(rows.map((row) => groupOf({ lengths }, row))).toEqual(groups)
})

test.each([
  ['captioner', {}, undefined, true],
  ['captioner', { maxTokens: 5 }, undefined, false],
  ['captioner', { noRepeatNgram: 2 }, 4, false],
  ['captioner', { beams: 2 }, 4, false],
  ['encoder-decoder', { maxTokens: 5 }, 4, true],
  ['encoder-decoder', { noRepeatNgram: 2 }, 4, true],
  ['encoder-decoder', { beams: 2 }, 4, false],
])('the time of a %s with %j is told of others where it is like them', (kind, settings, steps, telling) => {
  const generation = greedy(20)
  const rows = [{ settings: generation }, { settings: { ...generation, ...settings } }]
  const model = { generation, runner: { kind } as never }
  expect(isTelling(model, rows.slice(1), steps)).toBe(telling)
  expect(isTelling({ ...model, generation: rows[1]!.settings }, rows.slice(1), steps)).toBe(true)
})
