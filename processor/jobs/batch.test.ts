import { beforeEach, describe, expect, test, vi } from 'vitest'
import { keys } from '../../edge/contract/keys.ts'
import { decodeControl, encodeShardJob, type ShardJob } from '../../edge/contract/shard.ts'
import { topics } from '../../edge/contract/topics.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { storeError } from '../../infra/store/s3-errors.ts'
import { type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { createMetrics } from '../../infra/telemetry/metrics.ts'
import {
  codeOf,
  decodeShard,
  fakeImages,
  inPlace,
  shardKey,
  shardOf,
} from '../batches/shard/shard.fixture.ts'
import { FakeCaptioner, type FakeCaptionerOptions } from '../cli/captioner.fixture.ts'
import { reviveDeadLetter, withDeadLetters } from '../delivery/dead-letters.ts'
import { consumed, FakeSender } from '../delivery/record.fixture.ts'
import { ResultWrites } from '../delivery/result-writes.ts'
import { type BatchJobsOptions, batchJobs, measureBatches } from './batch.ts'

const signal = new AbortController().signal
const lines = ['https://x/a.jpg', 'https://x/gone.jpg', 'https://x/b.jpg']

let store: ObjectStore
let objects: ReturnType<typeof memoryStore>['objects']
let sender: FakeSender
let job: ShardJob
beforeEach(async () => {
  ;({ store, objects } = memoryStore())
  sender = new FakeSender()
  job = await shardOf(store, lines)
})

/** The jobs of one process. */
function processor({
  captions,
  ...change
}: Partial<BatchJobsOptions> & { captions?: FakeCaptionerOptions } = {}) {
  const metrics = createMetrics({ process: false })
  const warnings: string[] = []
  const jobs = batchJobs({
    captioner: new FakeCaptioner(captions),
    store,
    stream: sender,
    images: inPlace(fakeImages),
    metrics: measureBatches(metrics),
    log: { warn: (_, message) => void warnings.push(message) },
    now: () => 1000,
    ...change,
  })
  return { ...jobs, metrics, warnings }
}

const recordOf = (shard = job) => consumed(encodeShardJob(shard), { topic: topics.batch })
const stored = () => decodeShard(objects.get(shardKey(job))!)
const announced = () =>
  sender.sent.filter(({ topic }) => topic === topics.control).map(({ record }) => decodeControl(record))
const tally = {
  completed: 2,
  failed: 1,
  dropped: 0,
  pruneRatioSum: 1,
  inputTokens: 394,
  outputTokens: 8,
  pruned: 2,
  repaid: 0,
}
const done = { type: 'shard_done', tenant: 'acme', batch: 'batch_1', shard: 0, tally }

test('a shard is run, stored and announced', async () => {
  const { handle, metrics } = processor()
  await handle(recordOf(), signal)
  expect(stored().header).toMatchObject(tally)
  expect(announced()).toEqual([done])
  const text = await metrics.render()
  expect(text).toContain('turbine_shards_total{end="done"} 1')
  expect(text).toContain('turbine_batch_lines_total{code="ok"} 2')
  expect(text).toContain('turbine_batch_lines_total{code="image_not_found"} 1')
  expect(text).toContain('turbine_batch_image_fetch_seconds_count 2')
  expect(text).toContain('turbine_batch_lines_in_flight 0')
})

test('a shard that comes again is only announced again', async () => {
  await processor().handle(recordOf(), signal)
  const before = objects.get(shardKey(job))
  let tasks = 0
  await processor({ captions: { onTask: () => tasks++ } }).handle(recordOf(), signal)
  expect([tasks, objects.get(shardKey(job))]).toEqual([0, before])
  expect(announced()).toEqual([done, done])
})

test('of two processors at one shard the first counts, for both', async () => {
  const slow = Promise.withResolvers<void>()
  const first = processor()
  const second = processor({
    images: async (url, ask) => {
      await slow.promise
      return fakeImages(url.replace('gone', 'there'), ask)
    },
  })
  const late = second.handle(recordOf(), signal)
  await first.handle(recordOf(), signal)
  slow.resolve()
  await late
  expect(stored().header).toMatchObject(tally)
  expect(announced()).toEqual([done, done])
})

test('of a cancelled batch nothing is written or announced', async () => {
  await store.put(keys.batchCancel('acme', 'batch_1'), '{}')
  await processor().handle(recordOf(), signal)
  expect([objects.has(shardKey(job)), sender.sent]).toEqual([false, []])
})

test('lines that were not begun in time are dropped', async () => {
  await processor({ now: () => job.expiresAt }).handle(recordOf(), signal)
  expect(stored().errors.map(codeOf)).toEqual(Array(3).fill('batch_expired'))
  expect(announced()).toMatchObject([{ tally: { completed: 0, failed: 0, dropped: 3 } }])
})

test.each([
  ['input_not_found', { slices: [{ key: keys.fileContent('acme', 'deleted'), start: 0, end: 99 }] }],
  ['model_not_found', { model: 'another' }],
])('%s is the end of all lines of a shard', async (code, change) => {
  await processor().handle(recordOf({ ...job, ...change }), signal)
  expect(stored().errors.map(codeOf)).toEqual([code, code, code])
  expect(stored().errors.map(({ error }) => error!.line)).toEqual([1, 2, 3])
  expect(announced()).toMatchObject([{ tally: { completed: 0, failed: 3 } }])
})

describe('the bucket of a caller that has the lines', () => {
  const said = (status: number, name: string) =>
    storeError(Object.assign(new Error('no'), { name, $metadata: { httpStatusCode: status } }), {
      server: 'S3',
      bucket: 'theirs',
    })
  const theirs = (error: Error) => {
    const { store } = memoryStore()
    return () => ({ ...store, get: () => Promise.reject(error) })
  }
  beforeEach(async () => {
    const grants = [{ uri: 's3://theirs/', access: 'read' }]
    await store.put(keys.tenant(job.tenant), JSON.stringify({ id: job.tenant, grants }))
  })
  const inTheirs = () => recordOf({ ...job, slices: [{ bucket: 'theirs', key: 'a', start: 0, end: 99 }] })
  const messages = () => stored().errors.map(({ error }) => [error!.code, error!.message.includes('S3')])

  test('never gives them out: they fail, and say why', async () => {
    const { handle } = processor({ buckets: theirs(said(403, 'InvalidObjectState')) })
    await handle(inTheirs(), signal)
    expect(messages()).toEqual(Array(3).fill(['input_unavailable', true]))
  })

  test('cannot serve: the shard comes again for a quarter of an hour, and then fails', async () => {
    let now = 1000
    const jobs = processor({ buckets: theirs(said(503, 'SlowDown')), now: () => now })
    const handle = withDeadLetters(jobs, { stream: sender })
    for (; now < 800_000; now += 200_000)
      await expect(handle(inTheirs(), signal)).rejects.toThrow('503 SlowDown')
    now = 902_000
    await handle(inTheirs(), signal)
    expect(messages()).toEqual(Array(3).fill(['input_unavailable', true]))
    expect(announced()).toMatchObject([{ type: 'shard_done', tally: { failed: 3 } }])
  })

  test("cannot serve, nor can the service's own store: the shard comes again, however long it takes", async () => {
    let now = 1000
    const head = () => Promise.reject(new StoreUnavailableError('the own store is away'))
    const buckets = theirs(said(503, 'SlowDown'))
    const { handle } = processor({ buckets, store: { ...store, head }, now: () => now })
    for (; now < 3_000_000; now += 500_000)
      await expect(handle(inTheirs(), signal)).rejects.toThrow('the own store is away')
  })
})

describe('an outage', () => {
  test('of the store while results are written: they are kept, and no shard is begun until they are stored', async () => {
    let isFull = true
    let puts = 0
    const flaky: ObjectStore = {
      ...store,
      put: async (...args) => {
        puts++
        if (isFull) throw new StoreUnavailableError('No space left.')
        return store.put(...args)
      },
    }
    let captions = 0
    const captioner = new FakeCaptioner({ onTask: () => captions++ })
    const sleep = () => new Promise<void>((resolve) => setImmediate(resolve))
    const { handle } = processor({ store: flaky, captioner, results: new ResultWrites({ sleep }) })
    const first = handle(recordOf(), signal)
    await vi.waitFor(() => expect(puts).toBeGreaterThan(3))
    const captioned = captions
    const second = handle(recordOf(await shardOf(store, lines, { shard: 1 })), signal)
    for (let i = 0; i < 10; i++) await sleep()
    expect([captions, sender.sent]).toEqual([captioned, []])
    isFull = false
    await Promise.all([first, second])
    expect(stored().header).toMatchObject(tally)
    expect(captions).toBe(2 * captioned)
  })

  test('of the stream: the results stay, and are announced when it is back', async () => {
    const { handle } = processor()
    sender.away = new StreamUnavailableError('away')
    await expect(handle(recordOf(), signal)).rejects.toBe(sender.away)
    expect(stored().header).toMatchObject(tally)
    sender.away = undefined
    await handle(recordOf(), signal)
    expect(announced()).toEqual([done])
  })
})

describe('a shard that is given up', () => {
  /** Fails on the second image as nothing of ours should. */
  const broken = {
    captions: { fail: (image: string) => (image.endsWith('b.jpg') ? new TypeError('a defect') : undefined) },
  }

  async function giveUp() {
    const handle = withDeadLetters(processor(broken), { stream: sender, attempts: 1 })
    await handle(recordOf(), signal)
    const letter = sender.sent.find(({ topic }) => topic === topics.deadLetter)!
    return consumed(reviveDeadLetter(consumed(letter.record))!.record, { topic: topics.batch })
  }

  test('has an error line for each of its lines, so that its batch ends', async () => {
    await giveUp()
    expect(stored().errors.map((line) => [line.custom_id, codeOf(line)])).toEqual([
      ['line-1', 'shard_failed'],
      ['line-2', 'shard_failed'],
      ['line-3', 'shard_failed'],
    ])
    expect(announced()).toMatchObject([{ tally: { completed: 0, failed: 3, dropped: 0 } }])
  })

  test('keeps what another processor made of it', async () => {
    await processor().handle(recordOf(), signal)
    await processor(broken).onDead!(recordOf(), new TypeError('a defect'))
    expect(stored().header).toMatchObject(tally)
    expect(announced()).toEqual([done, done])
  })

  test.each(['validating', 'in_progress'])(
    'is run again on request while its batch is %s',
    async (status) => {
      const retry = await giveUp()
      await store.put(keys.batch('acme', 'batch_1'), JSON.stringify({ batch: { status } }))
      await processor().handle(retry, signal)
      expect(stored().header).toMatchObject(tally)
      expect(announced().at(-1)).toEqual({ ...done, replaced: true })
    },
  )

  test.each(['finalizing', 'completed', 'cancelled'])(
    'stays as it is when its batch is %s',
    async (status) => {
      const retry = await giveUp()
      await store.put(keys.batch('acme', 'batch_1'), JSON.stringify({ batch: { status } }))
      const { handle, warnings } = processor()
      await handle(retry, signal)
      expect(stored().header).toMatchObject({ failed: 3 })
      expect(warnings).toHaveLength(1)
    },
  )
})

test('a shard that comes again after its batch has ended leaves nothing behind', async () => {
  await store.put(keys.batch('acme', 'batch_1'), JSON.stringify({ batch: { status: 'completed' } }))
  const { handle, warnings } = processor()
  await handle(recordOf(), signal)
  expect(objects.has(shardKey(job))).toBe(false)
  expect([sender.sent, warnings.length]).toEqual([[], 1])
})

describe('pruned lines that are to be captioned again', () => {
  const again = () => recordOf({ ...job, repay: { until: 100_000 } })

  test('are, and the planner is told', async () => {
    await processor().handle(recordOf(), signal)
    const { handle, metrics } = processor()
    await handle(again(), signal)
    expect(stored().output.map(({ response }) => response?.body.turbine)).toMatchObject(
      Array(2).fill({ repaid: true }),
    )
    expect(announced().at(-1)).toMatchObject({ type: 'shard_repaid', shard: 0, pending: 0 })
    const text = await metrics.render()
    expect(text).toContain('turbine_shards_total{end="repaid"} 1')
    expect(text).toContain('turbine_batch_lines_repaid_total 2')
    expect(text).not.toContain('turbine_batch_lines_total{')
  })

  test.each([
    ['the input is gone', async () => store.delete(job.slices[0]!.key), {}],
    ['another model is served', async () => {}, { model: 'another' }],
  ])('stay as they are when %s, for good', async (_, change, captions) => {
    await processor().handle(recordOf(), signal)
    const before = objects.get(shardKey(job))
    await change()
    await processor({ captions }).handle(again(), signal)
    expect(objects.get(shardKey(job))).toBe(before)
    expect(announced().at(-1)).toEqual({ ...done, type: 'shard_repaid', pending: 0 })
  })

  test('stay as they are, for good, when a processor fails on them', async () => {
    await processor().handle(recordOf(), signal)
    const before = objects.get(shardKey(job))
    const broken = processor({ captions: { fail: () => new TypeError('a defect') } })
    await withDeadLetters(broken, { stream: sender, attempts: 1 })(again(), signal)
    expect(objects.get(shardKey(job))).toBe(before)
    expect(announced().at(-1)).toEqual({ ...done, type: 'shard_repaid', pending: 0 })
  })

  test('stay as they are when the batch is cancelled or over', async () => {
    await processor().handle(recordOf(), signal)
    const before = objects.get(shardKey(job))
    await store.put(keys.batchCancel('acme', 'batch_1'), '{}')
    await processor().handle(again(), signal)
    expect(objects.get(shardKey(job))).toBe(before)
    await store.delete(shardKey(job))
    await processor().handle(again(), signal)
    expect([objects.has(shardKey(job)), announced()]).toEqual([
      false,
      [done, { ...done, type: 'shard_repaid', pending: 2 }],
    ])
  })
})

test('a record that cannot be read is one for the dead letters, and there is nobody to tell', async () => {
  const record = consumed({ value: new TextEncoder().encode('{"tenant":') }, { topic: topics.batch })
  await withDeadLetters(processor(), { stream: sender })(record, signal)
  expect(sender.sent.map(({ topic }) => topic)).toEqual([topics.deadLetter])
})

describe('a manifest in a bucket of the tenant', () => {
  const grants = [{ uri: 's3://theirs/', access: 'read' }]
  const inBucket = async (granted: typeof grants, ownBucket?: string) => {
    const theirs = memoryStore()
    const { slices } = await shardOf(theirs.store, lines)
    await store.put(keys.tenant(job.tenant), JSON.stringify({ id: job.tenant, grants: granted }))
    job = { ...job, slices: slices.map((slice) => ({ ...slice, bucket: 'theirs' })) }
    await processor({ buckets: () => theirs.store, ownBucket }).handle(recordOf(), signal)
    return stored()
  }

  test('is read while that is granted', async () => {
    expect((await inBucket(grants)).header).toMatchObject({ completed: 2, failed: 1 })
  })

  test.each([
    ['the grant was revoked', [], undefined],
    ["it is the service's own", grants, 'theirs'],
  ])('is not read once %s, and its lines say why', async (_, granted, ownBucket) => {
    const { header, errors } = await inBucket(granted, ownBucket)
    expect(header).toMatchObject({ completed: 0, failed: 3 })
    expect(errors.map(codeOf)).toEqual(Array(3).fill('s3_not_granted'))
    expect(errors.map(({ custom_id }) => custom_id)).toEqual([null, null, null])
  })
})

describe('a shard whose lines wait for slow hosts', () => {
  function waiting() {
    const open = Promise.withResolvers<void>()
    const fetched: string[] = []
    const jobs = processor({
      images: async (url, ask) => {
        fetched.push(url)
        ask.onWait?.(undefined)
        await open.promise
        await ask.place?.()
        return fakeImages(url, ask)
      },
    })
    return { ...jobs, fetched, open: () => open.resolve() }
  }

  test('leaves its place to others, and the planner hears of it', async () => {
    const { handle, open } = waiting()
    const leavePlace = vi.fn()
    const handled = handle({ ...recordOf(), leavePlace }, signal)
    await vi.waitFor(() => expect(leavePlace).toHaveBeenCalledOnce())
    expect(announced()).toEqual([{ type: 'shard_waiting', tenant: 'acme', batch: 'batch_1', shard: 0 }])
    open()
    await handled
    expect(announced().at(-1)).toEqual(done)
  })

  test('and is sent again meanwhile is not run twice', async () => {
    const { handle, fetched, open, metrics } = waiting()
    const both = [handle(recordOf(), signal), handle(recordOf(), signal)]
    await vi.waitFor(() => expect(fetched).toHaveLength(3))
    open()
    await Promise.all(both)
    expect(fetched).toHaveLength(3)
    expect(await metrics.render()).toContain('turbine_shards_total{end="known"} 1')
  })
})
