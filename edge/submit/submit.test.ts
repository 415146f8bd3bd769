import { afterEach, expect, test, vi } from 'vitest'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { completed, emptyMailbox, fakeEdge, mailboxWith } from '../app.fixture.ts'
import { TurbineError } from '../contract/errors.ts'
import { decodeJob, maxInlineImageBytes } from '../contract/job.ts'
import { jobTopic } from '../contract/topics.ts'
import { remainingHoldMs, type Submission, type SubmitDeps, submitCaption } from './submit.ts'

const received = 1_790_000_000_000
const submission: Submission = {
  tenant: 'default',
  model: 'starter',
  images: [new Uint8Array([1, 2, 3])],
  receivedAt: received,
  maxPrune: 1,
}
const held = { respondAsync: false, signal: new AbortController().signal }
const asked = { ...held, respondAsync: true }

afterEach(() => void vi.useRealTimers())

test('the job says all that the request asked, and where the answer is awaited', async () => {
  const { deps, sent } = fakeEdge({ now: () => received + 20 })
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  await submitCaption(
    deps,
    { ...submission, request: { beginning: 'a photo of' }, maxPrune: 0.5, traceparent },
    held,
  )
  expect(sent).toHaveLength(1)
  expect(sent[0]!.topic).toBe('turbine.interactive')
  expect(decodeJob(sent[0]!.record)).toEqual({
    id: 'cap_1',
    tenant: 'default',
    model: 'starter',
    image: new Uint8Array([1, 2, 3]),
    acceptedAt: received + 20,
    deadline: received + 500,
    maxPrune: 0.5,
    request: { beginning: 'a photo of' },
    replyTo: 'test:cap_1',
    traceparent,
  })
})

test('a job says that its caller reads along, where one waits', async () => {
  const { deps, sent } = fakeEdge()
  for (const hold of [held, { ...held, onPart: () => {} }, { ...asked, onPart: () => {} }])
    await submitCaption(deps, submission, hold)
  expect(sent.map(({ record }) => decodeJob(record).streamed)).toEqual([undefined, true, undefined])
})

test('the job goes to the topic of its model, where it has one', async () => {
  const { deps, sent } = fakeEdge()
  const ownTopics = async (model: string) => model === 'owner/name'
  await submitCaption({ ...deps, ownTopics }, submission, held)
  await submitCaption({ ...deps, ownTopics }, { ...submission, model: 'owner/name' }, held)
  expect(sent.map(({ topic }) => topic)).toEqual([
    'turbine.interactive',
    jobTopic('interactive', 'owner/name').topic,
  ])
})

test("the caller's deadline is the job's", async () => {
  const { deps, sent } = fakeEdge()
  await submitCaption(deps, { ...submission, deadlineMs: 90 }, held)
  expect(decodeJob(sent[0]!.record).deadline).toBe(received + 90)
})

test('the largest inline image travels in the record, a larger one by key', async () => {
  const { deps, sent, objects } = fakeEdge()
  await submitCaption(deps, { ...submission, images: [new Uint8Array(maxInlineImageBytes)] }, held)
  await submitCaption(deps, { ...submission, images: [new Uint8Array(maxInlineImageBytes + 1)] }, held)
  const [inline, byKey] = sent.map(({ record }) => decodeJob(record).image)
  expect(inline).toHaveLength(maxInlineImageBytes)
  expect(byKey).toEqual({ key: 'captions/default/cap_2.image', bytes: maxInlineImageBytes + 1 })
  expect(objects.get('captions/default/cap_2.image')).toHaveLength(maxInlineImageBytes + 1)
})

test('an image whose job the stream refused does not stay in the store', async () => {
  const refused = new Error('refused')
  const { deps, objects } = fakeEdge({ stream: { send: () => Promise.reject(refused) } })
  const large = { ...submission, images: [new Uint8Array(maxInlineImageBytes + 1)] }
  await expect(submitCaption(deps, large, held)).rejects.toBe(refused)
  expect(objects.size).toBe(0)
})

test.each([
  [100, 2_000],
  [5_000, 5_000],
  [undefined, 25_000],
  [86_400_000, 25_000],
])('with a deadline of %s ms the stream gets %s ms to take the job', async (deadlineMs, allowed) => {
  vi.useFakeTimers()
  const cause = new Error('the broker is away')
  const { deps } = fakeEdge({
    stream: {
      send: (_topic, _records, options) =>
        new Promise((_, reject) => options?.signal?.addEventListener('abort', () => reject(cause))),
    },
  })
  const outcome = submitCaption(deps, { ...submission, deadlineMs }, held).catch((error: unknown) => error)
  let failed = false
  void outcome.then(() => {
    failed = true
  })
  await vi.advanceTimersByTimeAsync(allowed - 1)
  expect(failed).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  expect(await outcome).toBeInstanceOf(StreamUnavailableError)
})

test('a job that the stream took leaves no timer behind', async () => {
  vi.useFakeTimers()
  await submitCaption(fakeEdge().deps, submission, held)
  expect(vi.getTimerCount()).toBe(0)
})

test('nobody is answered before the stream has the job', async () => {
  const accepted = Promise.withResolvers<void>()
  const { deps } = fakeEdge({ stream: { send: () => accepted.promise } })
  let answers = 0
  const submitted = [held, asked].map(async (hold) => {
    await submitCaption(deps, submission, hold)
    answers++
  })
  await new Promise((resolve) => setImmediate(resolve))
  expect(answers).toBe(0)
  accepted.resolve()
  await Promise.all(submitted)
  expect(answers).toBe(2)
})

test('only what nobody could ask for later is sent unsynced, and it is synced before it gets an address', async () => {
  const log: string[] = []
  const stream: SubmitDeps['stream'] = {
    send: async (_topic, [record], options) => {
      log.push(`${decodeJob(record!).id} ${options?.unsynced ? 'unsynced' : 'synced'}`)
    },
    sync: async () => void log.push('sync'),
  }
  const { deps } = fakeEdge({ stream })
  const claim = { id: 'cap_claimed', accepted: async () => {} }
  await submitCaption(deps, submission, held)
  await submitCaption(deps, submission, asked)
  await submitCaption(deps, submission, held, claim)
  expect(log).toEqual(['cap_1 unsynced', 'cap_2 synced', 'cap_claimed synced'])
  const put: SubmitDeps['store']['put'] = async () => {
    log.push('mark')
    return { etag: '' }
  }
  const late = fakeEdge({
    stream,
    mailbox: emptyMailbox,
    store: { ...deps.store, put },
  })
  await submitCaption(late.deps, submission, held)
  expect(log.slice(3)).toEqual(['cap_1 unsynced', 'sync', 'mark'])
})

test('a caller who waited in vain leaves a queued mark', async () => {
  const { deps, objects } = fakeEdge({ mailbox: emptyMailbox })
  const queued = { id: 'cap_1', object: 'caption', status: 'queued', created: 1_790_000_000 }
  expect(await submitCaption(deps, submission, held)).toEqual(queued)
  expect(JSON.parse(new TextDecoder().decode(objects.get('captions/default/cap_1.json')))).toEqual(queued)
})

test.each([held, asked])('a result that came before the queued mark wins (%j)', async (hold) => {
  const { deps, objects } = fakeEdge({ mailbox: emptyMailbox })
  await deps.store.put('captions/default/cap_1.json', JSON.stringify(completed('cap_1')))
  expect(await submitCaption(deps, submission, hold)).toEqual(completed('cap_1'))
  expect(objects.size).toBe(1)
})

test('a caller who wants an address is not waited for', async () => {
  const { deps, sent } = fakeEdge()
  expect(await submitCaption(deps, submission, asked)).toMatchObject({ status: 'queued' })
  expect(decodeJob(sent[0]!.record).replyTo).toBeUndefined()
})

test('a caller who left before is not sent for; one who left while waiting gets no mark', async () => {
  const caller = new AbortController()
  const left = { respondAsync: false, signal: caller.signal }
  const { deps, sent, objects } = fakeEdge({
    mailbox: {
      deliver: () => false,
      show: () => 'unwanted' as const,
      open: () => ({
        replyTo: 'test:1',
        wait: async () => void caller.abort(),
        close: () => {},
      }),
    },
  })
  expect(await submitCaption(deps, submission, left)).toBeUndefined()
  expect(await submitCaption(deps, submission, left)).toBeUndefined()
  expect(sent).toHaveLength(1)
  expect(objects.size).toBe(0)
})

test('what is rejected costs no write, no record and no image', async () => {
  const rejection = new TurbineError('later', { status: 429, code: 'overloaded', retryAfterSeconds: 2 })
  const images = vi.fn(async () => [new Uint8Array(maxInlineImageBytes + 1)])
  const { deps, sent } = fakeEdge({ rejection: () => rejection })
  const put = vi.spyOn(deps.store, 'put')
  await expect(submitCaption(deps, { ...submission, images }, held)).rejects.toBe(rejection)
  expect([put.mock.calls, images.mock.calls, sent]).toEqual([[], [], []])
  // Whoever wants an address only is never late.
  expect(await submitCaption(deps, submission, asked)).toMatchObject({ status: 'queued' })
})

test('an admitted request that ends without a job is withdrawn', async () => {
  const gone = async () => Promise.reject(new TurbineError('gone', { status: 400, code: 'image_not_found' }))
  const full = { send: async () => Promise.reject(new StreamUnavailableError('full')) }
  const { deps } = fakeEdge()
  const withdrawn = async (images: Submission['images'], other: Partial<SubmitDeps> = {}) => {
    const withdraw = vi.fn()
    await submitCaption({ ...deps, ...other, withdraw }, { ...submission, images }, held).catch(
      () => undefined,
    )
    return withdraw.mock.calls.flat()
  }
  expect(await withdrawn(gone)).toEqual(['cap_1'])
  expect(await withdrawn(submission.images, { stream: full })).toEqual(['cap_2'])
  expect(await withdrawn(submission.images)).toEqual([])
})

test('a job whose answer may have been lost goes out again before its address is promised', async () => {
  const lost = { ...emptyMailbox, open: (id: string) => ({ ...emptyMailbox.open(id), lost: true }) }
  const { deps, sent } = fakeEdge({ mailbox: lost })
  expect(await submitCaption(deps, submission, held)).toMatchObject({ status: 'queued' })
  const jobs = sent.map(({ record }) => decodeJob(record))
  expect(jobs).toMatchObject([
    { id: 'cap_1', replyTo: 'test:cap_1' },
    { id: 'cap_1', repeatable: true },
  ])
  expect(jobs[1]!.replyTo).toBeUndefined()
})

test('the pending reply is closed whether the job was sent or not', async () => {
  let open = 0
  const mailbox = {
    deliver: () => false,
    show: () => 'unwanted' as const,
    open: (id: string) => {
      open++
      return { ...mailboxWith(completed).open(id), close: () => void open-- }
    },
  }
  await submitCaption(fakeEdge({ mailbox }).deps, submission, held)
  const { deps } = fakeEdge({ mailbox, stream: { send: () => Promise.reject(new Error('refused')) } })
  await expect(submitCaption(deps, submission, held)).rejects.toThrow('refused')
  expect(open).toBe(0)
})

test.each([
  [undefined, 0, 25_000],
  [undefined, 10_000, 15_000],
  [300, 0, 300],
  [300, 200, 100],
  [300, 5_000, 0],
  [86_400_000, 0, 25_000],
])(
  'with a deadline of %s ms, %s ms after the request, %s ms are left to hold',
  (deadlineMs, passed, left) => {
    expect(remainingHoldMs({ receivedAt: received, deadlineMs }, received + passed)).toBe(left)
  },
)
