import { beforeEach, expect, test } from 'vitest'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../../infra/store/store.ts'
import type { Captioned, CaptionTask } from '../../pipeline/captioner.ts'
import { VirtualClock } from '../planner/virtual-clock.fixture.ts'
import { createShardRepayer, type RepayJob, type ShardRepayerOptions } from './repay.ts'
import { writeShard } from './results.ts'
import { createShardRunner } from './runner.ts'
import { codeOf, decodeShard, fakeImages, gif, shardKey, shardOf } from './shard.fixture.ts'

const signal = new AbortController().signal
const start = 1_000_000
const lines = ['https://x/0.jpg', 'https://x/1.jpg', 'nonsense:', 'https://x/3.jpg', 'https://x/4.jpg']

let store: ObjectStore
let clock: VirtualClock
let job: RepayJob
/** The shard as it was after its first run: lines with an even number are pruned. */
let before: Uint8Array

const nameOf = ({ image }: CaptionTask) => Buffer.from(image).toString().split('/').at(-1)!

const captionedAt = (task: CaptionTask, pruneLevel: number): Captioned => ({
  caption: `${pruneLevel === 0 ? 'all' : 'some'} of ${nameOf(task)} · “É”`,
  finish_reason: 'stop',
  turbine: {
    prune_level: pruneLevel,
    prune_ratio: pruneLevel / 10,
    tokens_in: 197,
    tokens_out: 197 - 20 * pruneLevel,
    output_tokens: pruneLevel === 0 ? 7 : 4,
    queue_ms: 1.52,
    inference_ms: 12.34,
    model: 'fake',
  },
})

/** Prunes images with an even number, unless a level is given. */
const captionerOf = (caption: (task: CaptionTask) => Promise<Captioned>) => ({
  model: 'fake',
  concurrency: 2,
  caption,
  close: async () => {},
})
const adaptive = captionerOf(async (task) =>
  captionedAt(task, task.level ?? (Number.parseInt(nameOf(task), 10) % 2 === 0 ? 3 : 0)),
)

beforeEach(async () => {
  ;({ store } = memoryStore())
  clock = new VirtualClock(start)
  const shard = await shardOf(store, lines, { expiresAt: start + 3_600_000 })
  job = { ...shard, repay: { until: start + 60_000 } }
  const run = createShardRunner({ captioner: adaptive, store, images: fakeImages, now: clock.now })
  const results = (await run(shard, signal))!
  before = results.object
  await writeShard(store, shard, results)
})

const repayer = (change: Partial<ShardRepayerOptions> = {}) =>
  createShardRepayer({
    captioner: adaptive,
    store,
    images: fakeImages,
    now: clock.now,
    sleep: (ms, signal) => clock.sleep(ms, signal),
    ...change,
  })

const bytesNow = async () =>
  new Uint8Array(await new Response((await store.get(shardKey(job)))!.body).arrayBuffer())
const texts = (object: Uint8Array) => new TextDecoder().decode(object).split('\n')

test('pruned lines are replaced, all others stay byte for byte', async () => {
  const asked: CaptionTask[] = []
  const captioner = captionerOf(async (task) => {
    asked.push(task)
    return adaptive.caption(task)
  })
  const repaid = await repayer({ captioner })(job, signal)
  expect(asked.map(nameOf)).toEqual(['0.jpg', '4.jpg'])
  for (const task of asked)
    expect(task).toMatchObject({ lane: 'batch', level: 0, idle: true, deadline: undefined })

  const object = await bytesNow()
  const [, ...old] = texts(before)
  const [, ...now] = texts(object)
  expect(now.filter((text, i) => text !== old[i])).toHaveLength(2)
  expect(now).toHaveLength(old.length)
  const { header, output, errors } = decodeShard(object)
  expect(output.map(({ custom_id }) => custom_id)).toEqual(['line-1', 'line-2', 'line-4', 'line-5'])
  expect(output.map(({ response }) => response!.body.caption)).toEqual(
    ['0', '1', '3', '4'].map((name) => `all of ${name}.jpg · “É”`),
  )
  expect(output.map(({ response }) => response!.body.turbine)).toMatchObject([
    { prune_level: 0, prune_ratio: 0, tokens_out: 197, repaid: true },
    { prune_level: 0 },
    { prune_level: 0 },
    { prune_level: 0, prune_ratio: 0, tokens_out: 197, repaid: true },
  ])
  expect(output[1]!.response!.body.turbine).not.toHaveProperty('repaid')
  expect(errors.map(codeOf)).toEqual(decodeShard(before).errors.map(codeOf))
  const tally = {
    completed: 4,
    failed: 1,
    dropped: 0,
    pruneRatioSum: 0,
    inputTokens: 4 * 197,
    outputTokens: 28,
    pruned: 0,
    repaid: 2,
  }
  expect(header).toMatchObject(tally)
  expect(repaid).toEqual({ tally, lines: 2, pending: 0 })
  expect(await repayer()(job, signal)).toEqual({ tally, lines: 0, pending: 0 })
})

test('a line whose image cannot be had any more keeps its result', async () => {
  const images: typeof fakeImages = async (url) => {
    if (url.endsWith('/0.jpg')) throw new ImageError('image_not_found', 'gone')
    return gif(url)
  }
  expect(await repayer({ images })(job, signal)).toMatchObject({
    lines: 1,
    pending: 0,
    tally: { completed: 4, pruned: 1, repaid: 1, pruneRatioSum: 0.3 },
  })
  expect(texts(await bytesNow())[1]).toBe(texts(before)[1])
})

test('a captioner that has no time is left alone; what was done until then counts', async () => {
  const captioner = captionerOf((task) =>
    nameOf(task) === '0.jpg'
      ? adaptive.caption(task)
      : new Promise((_, reject) => {
          task.signal!.addEventListener('abort', () => reject(task.signal!.reason))
        }),
  )
  const repaid = repayer({ captioner })(job, signal)
  await clock.advance(9_000)
  expect(await bytesNow()).toEqual(before)
  await clock.advance(3_000)
  expect(await repaid).toMatchObject({ lines: 1, pending: 1, tally: { pruned: 1, repaid: 1 } })
  expect(decodeShard(await bytesNow()).header).toMatchObject({ pruned: 1, repaid: 1 })
})

test('a full queue means that there is no time', async () => {
  const captioner = captionerOf(async () => {
    throw new TurbineError('full', { status: 429, code: 'queue_full', retryAfterSeconds: 5 })
  })
  expect(await repayer({ captioner })(job, signal)).toMatchObject({ lines: 0, pending: 2 })
  expect(await bytesNow()).toEqual(before)
})

test('devices that are slow are not busy', async () => {
  const slow = captionerOf(async (task) => {
    await clock.sleep(nameOf(task) === '0.jpg' ? 8_000 : 16_000, task.signal!)
    task.signal!.throwIfAborted()
    return adaptive.caption(task)
  })
  const repaid = repayer({ captioner: slow })(job, signal)
  await clock.advance(20_000)
  expect(await repaid).toMatchObject({ lines: 2, pending: 0 })
})

test('nothing is written when the time is up', async () => {
  expect(await repayer()({ ...job, repay: { until: start } }, signal)).toBeUndefined()
  const late = captionerOf(async (task) => {
    await clock.sleep(8_000, signal)
    return adaptive.caption(task)
  })
  const repaid = repayer({ captioner: late })({ ...job, repay: { until: start + 7_000 } }, signal)
  await clock.advance(10_000)
  expect(await repaid).toBeUndefined()
  expect(await bytesNow()).toEqual(before)
})

test('nothing is written of a cancelled batch', async () => {
  const captioner = captionerOf(async (task) => {
    await store.put(keys.batchCancel('acme', 'batch_1'), '{}')
    await clock.sleep(2_000, signal)
    return adaptive.caption(task)
  })
  const repaid = repayer({ captioner })(job, signal)
  await clock.advance(5_000)
  expect(await repaid).toBeUndefined()
  expect(await bytesNow()).toEqual(before)
})

test('of two that repay a shard the first counts, and the other says what is there', async () => {
  const captioner = captionerOf(async (task) => {
    await clock.sleep(2_000, signal)
    return adaptive.caption(task)
  })
  const second = repayer({ captioner })(job, signal)
  await clock.advance(1_000)
  const first = await repayer()(job, signal)
  const after = await bytesNow()
  await clock.advance(5_000)
  expect(await second).toEqual({ tally: first!.tally, lines: 0, pending: 0 })
  expect(await bytesNow()).toEqual(after)
})

test('a shard whose results are gone is left alone', async () => {
  await store.delete(shardKey(job))
  expect(await repayer()(job, signal)).toBeUndefined()
  expect(await store.head(shardKey(job))).toBeUndefined()
})

test.each([
  ['a store that is away', new StoreUnavailableError('away')],
  ['a defect', new TypeError('a defect')],
])('%s: the shard comes again, and stays as it was', async (_, error) => {
  const images: typeof fakeImages = async () => Promise.reject(error)
  await expect(repayer({ images })(job, signal)).rejects.toBe(error)
  expect(await bytesNow()).toEqual(before)
})

test('a consumer that closes ends it', async () => {
  const closing = new AbortController()
  const captioner = captionerOf(
    (task) =>
      new Promise((_, reject) => {
        task.signal!.addEventListener('abort', () => reject(task.signal!.reason))
      }),
  )
  const repaid = repayer({ captioner })(job, closing.signal)
  repaid.catch(() => {})
  await clock.advance(2_000)
  closing.abort(new Error('closing'))
  await expect(repaid).rejects.toThrow('closing')
})
