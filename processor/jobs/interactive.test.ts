import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest'
import type { FinishedCaption } from '../../edge/contract/caption.ts'
import { TurbineError } from '../../edge/contract/errors.ts'
import { type CaptionJob, encodeJob } from '../../edge/contract/job.ts'
import { keys } from '../../edge/contract/keys.ts'
import { topics } from '../../edge/contract/topics.ts'
import { FairBudget } from '../../infra/fair-budget.ts'
import { openDirectoryStore } from '../../infra/store/directory.ts'
import { getJson, type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import type { ConsumedRecord, StreamRecord } from '../../infra/stream/stream.ts'
import { reviveDeadLetter, withDeadLetters } from '../delivery/dead-letters.ts'
import { ResultWrites } from '../delivery/result-writes.ts'
import type { Captioned, CaptionTask } from '../pipeline/captioner.ts'
import { type InteractiveJobsOptions, interactiveJobs, RecentTime } from './interactive.ts'

const startedAt = 1000
const job: CaptionJob = {
  id: 'cap_1',
  tenant: 'default',
  model: 'tiny',
  image: Uint8Array.of(1, 2, 3),
  acceptedAt: 2000,
  deadline: 2500,
  maxPrune: 0.5,
  replyTo: 'local:cap_1',
}
const captioned: Captioned = {
  caption: 'a fish',
  finish_reason: 'stop',
  turbine: {
    prune_level: 1,
    prune_ratio: 0.25,
    tokens_in: 65,
    tokens_out: 49,
    output_tokens: 4,
    queue_ms: 3,
    inference_ms: 4,
    model: 'tiny',
  },
}

let folder: string
let store: ObjectStore
let tasks: CaptionTask[]
let delivered: FinishedCaption[]
let dead: StreamRecord[]
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-jobs-'))
  store = await openDirectoryStore(folder)
  tasks = []
  delivered = []
  dead = []
})
afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true })
})

/** Handles one record with a captioner that answers, or fails with, what is given. */
function handle(
  record: ConsumedRecord,
  outcome: Captioned | Error = captioned,
  more: Partial<InteractiveJobsOptions> = {},
): Promise<void> {
  const jobs = interactiveJobs({
    captioner: {
      model: 'tiny',
      concurrency: 1,
      close: async () => {},
      async caption(task) {
        tasks.push(task)
        if (outcome instanceof Error) throw outcome
        return outcome
      },
    },
    store,
    deliver: async (_, caption) => delivered.push(caption) > 0,
    now: () => startedAt,
    ...more,
  })
  const stream = {
    async send(topic: string, records: StreamRecord[]) {
      expect(topic).toBe(topics.deadLetter)
      dead.push(...records)
    },
  }
  return withDeadLetters(jobs, { stream, attempts: 1 })(record, new AbortController().signal)
}

const recordOf = (change: Partial<CaptionJob> = {}, timestamp = 2000): ConsumedRecord => ({
  ...encodeJob({ ...job, ...change }),
  topic: topics.interactive,
  partition: 2,
  offset: 7n,
  timestamp,
})
const stored = () => getJson<FinishedCaption>(store, keys.caption('default', 'cap_1'))

it('stores the caption and announces it', async () => {
  await handle(recordOf())
  expect(tasks).toMatchObject([{ lane: 'interactive', acceptedAt: 2000, deadline: 2450, maxPrune: 0.5 }])
  expect(await stored()).toMatchObject({ status: 'completed', caption: 'a fish', created: 2 })
  expect(delivered).toEqual([await stored()])
})

it('captions several images of one record as it asks, and keeps what is to be known', async () => {
  const request = { text: 'What changed?' }
  await handle(
    recordOf({
      imageSizes: [1, 2],
      request,
      settings: { temperature: 0.5, seed: 1 },
      n: 2,
      warnings: ['text_ignored'],
    }),
  )
  expect(tasks).toMatchObject([
    { images: [Uint8Array.of(1), Uint8Array.of(2, 3)], request, settings: { temperature: 0.5, seed: 1 } },
    { settings: { seed: 2 } },
  ])
  expect(await stored()).toMatchObject({
    captions: [{ caption: 'a fish' }, { caption: 'a fish' }],
    turbine: { output_tokens: 8, warnings: ['text_ignored'] },
  })
})

it('does not caption again what has its result from before the start', async () => {
  await handle(recordOf())
  await handle(recordOf({}, startedAt - 1))
  expect(tasks).toHaveLength(1)
  expect(delivered).toHaveLength(2)
})

it('does not caption again what may be a repeat and has its result', async () => {
  await handle(recordOf({ repeatable: true }))
  await handle(recordOf({ repeatable: true }))
  expect(tasks).toHaveLength(1)
  expect(delivered).toHaveLength(2)
})

it('keeps a caption that cannot be stored, and begins no other until it is', async () => {
  const jobs = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ ...recordOf({ id: `cap_${i + 1}` }), offset: BigInt(i) }))
  const sleep = () => new Promise<void>((resolve) => setImmediate(resolve))
  let isFull = true
  let puts = 0
  const put: ObjectStore['put'] = async (...args) => {
    puts++
    if (isFull) throw new StoreUnavailableError('No space left.')
    return store.put(...args)
  }
  const flaky: ObjectStore = {
    put,
    get: (...args) => store.get(...args),
    head: (key) => store.head(key),
    delete: (key) => store.delete(key),
    list: (...args) => store.list(...args),
    close: async () => {},
  }
  const more = { store: flaky, results: new ResultWrites({ sleep }) }
  const [first, ...others] = jobs(4)
  const handled = [handle(first!, captioned, more)]
  while (puts < 3) await sleep()
  for (const other of others) handled.push(handle(other, captioned, more))
  for (let i = 0; i < 10; i++) await sleep()
  expect([tasks.length, delivered]).toEqual([1, []])
  isFull = false
  await Promise.all(handled)
  expect([tasks.length, delivered.length]).toEqual([4, 4])
})

it('lets a repeat wait for the one that is being captioned', async () => {
  const inferred = Promise.withResolvers<Captioned>()
  const jobs = interactiveJobs({
    captioner: {
      model: 'tiny',
      concurrency: 2,
      close: async () => {},
      caption: (task) => {
        tasks.push(task)
        return inferred.promise
      },
    },
    store,
    deliver: async (_, caption) => delivered.push(caption) > 0,
    now: () => startedAt,
  })
  const { signal } = new AbortController()
  const both = [1, 2].map(() => jobs.handle(recordOf({ repeatable: true }), signal))
  inferred.resolve(captioned)
  await Promise.all(both)
  expect(tasks).toHaveLength(1)
  expect(delivered).toHaveLength(2)
})

it.each([
  ['a caller who waits', {}],
  ['a caller who has a 202', { replyTo: undefined }],
])('two processors that have a record at once give one result: %s', async (_, change) => {
  const runs = [Promise.withResolvers<Captioned>(), Promise.withResolvers<Captioned>()]
  const handled = runs.map(({ promise }) => {
    const captioner = { model: 'tiny', concurrency: 1, close: async () => {}, caption: () => promise }
    return handle(recordOf({ repeatable: true, ...change }), captioned, { captioner })
  })
  for (const [index, { resolve }] of runs.entries()) {
    resolve({ ...captioned, turbine: { ...captioned.turbine, queue_ms: index } })
    await handled[index]
  }
  expect(await stored()).toMatchObject({ turbine: { queue_ms: 0 } })
  expect(delivered).toEqual('replyTo' in change ? [] : [await stored(), await stored()])
})

it('captions what was only marked as queued before the start', async () => {
  await store.put(keys.caption('default', 'cap_1'), JSON.stringify({ status: 'queued' }))
  await handle(recordOf({}, startedAt - 1))
  expect(await stored()).toMatchObject({ status: 'completed' })
})

it('fetches an image that travels by key, and removes it', async () => {
  const key = keys.captionImage('default', 'cap_1')
  await store.put(key, Uint8Array.of(9, 9))
  await handle(recordOf({ image: { key } }))
  expect([...tasks[0]!.image]).toEqual([9, 9])
  expect(await store.head(key)).toBeUndefined()
})

it('reads images that travel by key only when there is memory for them, and other tenants’ beside', async () => {
  const size = 1000
  const memory = new FairBudget({ size: 4 * size, leavesRoom: true })
  const reads: string[] = []
  const counted: ObjectStore = {
    ...store,
    get: (key, range) => {
      if (key.endsWith('.image')) reads.push(key)
      return store.get(key, range)
    },
    put: (...put) => store.put(...put),
    delete: (key) => store.delete(key),
  }
  const decoded = Promise.withResolvers<void>()
  const jobs = interactiveJobs({
    captioner: {
      model: 'tiny',
      concurrency: 1,
      close: async () => {},
      caption: async () => {
        await decoded.promise
        return captioned
      },
    },
    store: counted,
    memory,
    decided: true,
    deliver: async () => true,
    now: () => startedAt,
  })
  const send = async (tenant: string, index: number) => {
    const id = `cap_${index}`
    const image = { key: keys.captionImage(tenant, id), bytes: size }
    await store.put(image.key, new Uint8Array(size))
    return jobs.handle(recordOf({ id, tenant, image }), new AbortController().signal)
  }
  const hostile = Array.from({ length: 20 }, (_, index) => send('hostile', index))
  await vi.waitFor(() => expect(jobs.runningOf('hostile')).toBe(20))
  await vi.waitFor(() => expect(reads).toHaveLength(2))
  expect(memory.heldBy('hostile')).toBe(2 * size)
  const honest = send('honest', 99)
  await vi.waitFor(() => expect(reads).toContain(keys.captionImage('honest', 'cap_99')))
  expect(memory.reserved).toBe(3 * size)
  decoded.resolve()
  await Promise.all([...hostile, honest])
  expect([reads.length, memory.reserved, jobs.runningOf('hostile')]).toEqual([21, 0, 0])
})

it.each([
  ['an image that cannot be captioned', new TurbineError('no', { status: 400, code: 'image_invalid' }), {}],
  ['a model that is gone', captioned, { model: 'other' }],
  ['an image that is gone', captioned, { image: { key: 'captions/default/none.image' } }],
])('answers %s as failed', async (_, outcome, change) => {
  await handle(recordOf(change), outcome)
  expect(await stored()).toMatchObject({ status: 'failed' })
  expect(delivered).toHaveLength(1)
  expect(dead).toEqual([])
})

describe('a processor that cannot answer in time', () => {
  const reasons: string[] = []
  const overload: Partial<InteractiveJobsOptions> = {
    admission: () => ({ admitted: false, reason: 'late', retryAfterSeconds: 3 }),
    onRejected: (reason) => reasons.push(reason),
  }

  it('rejects the request, says when to come back and writes nothing to the store', async () => {
    reasons.length = 0
    const writes = [vi.spyOn(store, 'put'), vi.spyOn(store, 'delete')]
    await handle(recordOf(), captioned, overload)
    for (const write of writes) expect(write).not.toHaveBeenCalled()
    expect(tasks).toEqual([])
    expect(reasons).toEqual(['late'])
    expect(delivered).toMatchObject([
      { status: 'failed', http_status: 429, retry_after: 3, error: { code: 'overloaded' } },
    ])
  })

  it.each<[string, Partial<CaptionJob>, boolean]>([
    ['nobody was reached with', {}, false],
    ['a repeat of the request may look for', { repeatable: true }, true],
  ])('keeps an answer that %s', async (_, change, answered) => {
    await handle(recordOf(change), captioned, { ...overload, deliver: async () => answered })
    expect(await stored()).toMatchObject({ http_status: 429, retry_after: 3 })
  })

  it('says in the words of the contract that the queue is full', async () => {
    const full = { admitted: false, reason: 'full', retryAfterSeconds: 2 } as const
    await handle(recordOf(), captioned, { ...overload, admission: () => full })
    expect(delivered).toMatchObject([{ http_status: 429, error: { code: 'queue_full' } }])
  })

  it('rejects no job that the edge of this process has taken', async () => {
    await handle(recordOf(), captioned, { ...overload, decided: true })
    expect(await stored()).toMatchObject({ status: 'completed' })
  })

  it.each([
    ['nobody waits for', { replyTo: undefined }],
    ['was given an address for, since its deadline is past', { deadline: startedAt }],
  ])('captions what %s', async (_, change) => {
    await handle(recordOf(change), captioned, overload)
    expect(await stored()).toMatchObject({ status: 'completed' })
  })

  it('captions what it rejected when it comes again', async () => {
    await handle(recordOf({ repeatable: true }), captioned, overload)
    await handle(recordOf({ repeatable: true }))
    expect(await stored()).toMatchObject({ status: 'completed' })
  })
})

it('counts what the edge was told it takes until its record comes, or its time is over', async () => {
  let clock = startedAt
  const jobs = interactiveJobs({
    captioner: { model: 'tiny', concurrency: 1, close: async () => {}, caption: async () => captioned },
    store,
    deliver: async () => true,
    admission: () =>
      clock <= 2000 ? { admitted: true } : { admitted: false, reason: 'late', retryAfterSeconds: 1 },
    decided: true,
    now: () => clock,
  })
  expect(jobs.rejection(job)).toBeUndefined()
  expect(jobs.rejection({ ...job, id: 'cap_2' })).toBeUndefined()
  expect(jobs.rejection({ ...job, id: 'cap_gone' })).toBeUndefined()
  jobs.withdraw('cap_gone')
  expect(jobs.inTransit()).toEqual([2450, 2450])
  clock = 2000
  await jobs.handle(recordOf(), new AbortController().signal)
  expect(jobs.inTransit()).toEqual([2450])
  clock = 2100
  expect(jobs.rejection({ ...job, id: 'cap_3' })).toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 })
  expect(jobs.inTransit()).toEqual([2450])
  clock = 2450
  expect(jobs.inTransit()).toEqual([])
})

it.each(['shutting_down', 'queue_full'])('leaves the record for later on %s', async (code) => {
  const busy = new TurbineError('later', { status: code === 'queue_full' ? 429 : 503, code })
  await expect(handle(recordOf(), busy)).rejects.toBe(busy)
  expect(await stored()).toBeUndefined()
})

it('keeps a record that the model cannot run on with the dead letters, and tells the caller', async () => {
  await handle(recordOf(), new TurbineError('broken', { status: 503, code: 'inference_failed' }))
  expect(await stored()).toMatchObject({ status: 'failed', http_status: 503 })
  expect(dead).toMatchObject([
    { headers: { 'turbine-id': 'cap_1', 'origin-partition': '2', 'origin-offset': '7', cause: 'broken' } },
  ])
})

it('tells the caller when a record is given up for an error that is not its own', async () => {
  await handle(recordOf(), new TypeError('a defect'))
  expect(dead).toHaveLength(1)
  expect(await stored()).toMatchObject({ http_status: 500, error: { code: 'internal_error' } })
  expect(delivered).toEqual([await stored()])
})

it('keeps the image of a record that is given up, and captions it without haste when it is sent again', async () => {
  const key = keys.captionImage('default', 'cap_1')
  await store.put(key, Uint8Array.of(9, 9))
  await handle(recordOf({ image: { key } }), new TypeError('a defect'))
  const { record } = reviveDeadLetter({ ...recordOf(), ...dead[0]! })!
  await handle({ ...recordOf(), ...record, timestamp: startedAt - 1 })
  expect(await stored()).toMatchObject({ status: 'completed' })
  expect(tasks.at(-1)).toMatchObject({ acceptedAt: startedAt - 1, deadline: undefined })
})

it('keeps a record that cannot be read with the dead letters', async () => {
  const record = recordOf()
  delete record.headers.deadline
  await handle(record)
  expect(dead).toMatchObject([{ headers: { 'origin-topic': topics.interactive } }])
  expect(tasks).toEqual([])
})

const after = (replies: number[]) => {
  const time = new RecentTime()
  for (const ms of replies) time.observe(ms)
  return time.ms
}

test('nothing is known at first, and a lasting change is followed', () => {
  expect(after([])).toBe(0)
  expect(after(Array(100).fill(20))).toBeCloseTo(20, 0)
  expect(after([...Array(100).fill(20), ...Array(100).fill(5)])).toBeCloseTo(5, 0)
})

test('a store that hangs, or a clock that goes back, takes little from the time of images', () => {
  expect(after(Array(100).fill(60_000))).toBeLessThanOrEqual(100)
  expect(after([20, -50])).toBeGreaterThanOrEqual(0)
})

describe('a caller who reads along', () => {
  /** A line to a caller, who leaves when the first text is shown if it is said so. */
  function lineOf({ leaves = false } = {}) {
    const left = new AbortController()
    const told: unknown[] = []
    const line = (of: CaptionJob) => {
      told.push(of.id)
      return {
        left: left.signal,
        show: (index: number, text: string) => {
          told.push([index, text])
          if (leaves) left.abort(new Error('left'))
        },
        close: () => void told.push('closed'),
      }
    }
    return { line, told, left }
  }

  /** A captioner that says one word of each caption, and goes on unless nobody wants it. */
  const growing = {
    model: 'tiny',
    concurrency: 1,
    close: async () => {},
    async caption(task: CaptionTask) {
      tasks.push(task)
      task.onText?.('a')
      task.signal?.throwIfAborted()
      return captioned
    },
  }

  it('is told each caption while it grows', async () => {
    const { line, told } = lineOf()
    await handle(recordOf({ streamed: true, n: 2 }), captioned, { captioner: growing, lineTo: line })
    expect(told).toEqual(['cap_1', [0, 'a'], [1, 'a'], 'closed'])
    expect(delivered).toEqual([await stored()])
  })

  it('is told nothing who did not ask for it, or does not wait', async () => {
    const { line, told } = lineOf()
    const more = { captioner: growing, lineTo: line }
    await handle(recordOf(), captioned, more)
    expect(told).toEqual(['cap_1', 'closed'])
    await handle(recordOf({ id: 'cap_2', streamed: true, replyTo: undefined }), captioned, more)
    expect(told).toHaveLength(2)
  })

  it('leaves, and the caption is given up: nothing is stored, and it is not tried again', async () => {
    const { line, told } = lineOf({ leaves: true })
    const key = keys.captionImage('default', 'cap_1')
    await store.put(key, Uint8Array.of(1))
    const record = recordOf({ streamed: true, image: { key } })
    await handle(record, captioned, { captioner: growing, lineTo: line })
    expect(told).toEqual(['cap_1', [0, 'a'], 'closed'])
    expect(await stored()).toBeUndefined()
    expect([delivered, dead]).toEqual([[], []])
    expect(await store.head(key)).toBeUndefined()
  })

  it('has left before his turn, streamed or not', async () => {
    const { line, left } = lineOf()
    left.abort()
    await handle(recordOf(), captioned, { captioner: growing, lineTo: line })
    expect(await stored()).toBeUndefined()
    expect([delivered, dead]).toEqual([[], []])
  })

  it('leaves, and a repeat of the request finds the caption', async () => {
    const { line } = lineOf({ leaves: true })
    const record = recordOf({ streamed: true, repeatable: true })
    await handle(record, captioned, { captioner: growing, lineTo: line })
    expect(await stored()).toMatchObject({ caption: 'a fish' })
  })
})
