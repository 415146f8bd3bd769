import { expect, test } from 'vitest'
import type { BatchRun } from './batches.ts'
import type { Ask } from './captions.ts'
import { describeVerdict, isClean, judge, type Observed } from './verdict.ts'

const ask: Ask = {
  form: 'json',
  tenant: 'acme',
  expected: 'a red fish',
  caption: 'a red fish',
  fromMs: 0,
  toMs: 100,
  accepted: true,
}
const run: BatchRun = {
  tenant: 'acme',
  expected: [{ customId: 'a', caption: 'a red fish' }],
  batch: {
    id: 'batch_1',
    status: 'completed',
    request_counts: { total: 1, completed: 1, failed: 0 },
  } as BatchRun['batch'],
  output: JSON.stringify({
    id: 'batch_req_1_1',
    custom_id: 'a',
    response: { body: { caption: 'a red fish' } },
    error: null,
  }),
  errors: '',
}
const clean: Observed = {
  journal: { asks: [ask, { ...ask, fromMs: 2000, toMs: 2150 }], batches: [run], attempts: [] },
  stormFromMs: 1000,
  outages: [],
  attacks: { json: { '400 invalid_json': 3, '503 overloaded': 2, 'no answer': 1 } },
  crashed: [],
  leaked: [],
  maxRatio: 2,
}
const verdictOf = (more: Partial<Observed['journal']> & Partial<Omit<Observed, 'journal'>>) => {
  const { asks, batches, attempts, ...observed } = more
  const journal = {
    asks: [...clean.journal.asks, ...(asks ?? [])],
    batches: [...clean.journal.batches, ...(batches ?? [])],
    attempts: attempts ?? [],
  }
  return judge({ ...clean, ...observed, journal }).verdict
}

test('a run in which everything was as promised is clean', () => {
  const { verdict, latency, lines } = judge(clean)
  expect(isClean(verdict)).toBe(true)
  expect(describeVerdict(verdict)).toMatch(/^Nothing lost/)
  expect([latency.ratio, lines]).toEqual([1.5, 1])
})

test.each<[string, Parameters<typeof verdictOf>[0], string]>([
  [
    'lost',
    { asks: [{ ...ask, toMs: undefined, caption: undefined }] },
    'json of acme at 0.0 s: accepted and never answered',
  ],
  [
    'lost',
    { asks: [{ ...ask, toMs: undefined, caption: undefined, accepted: false }] },
    'json of acme at 0.0 s: never answered',
  ],
  ['lost', { batches: [{ ...run, output: undefined }] }, 'batch_1 of acme: completed'],
  ['lost', { batches: [{ ...run, batch: undefined }] }, 'a batch of acme: never created'],
  ['lost', { batches: [{ ...run, output: '' }] }, 'batch_1 of acme: line 1 (a)'],
  ['doubled', { asks: [{ ...ask, doubled: '200 {}' }] }, 'json of acme at 0.0 s: its key got 200 {}'],
  ['doubled', { batches: [{ ...run, output: `${run.output}\n${run.output}` }] }, 'batch_1 of acme: line 1'],
  [
    'wrong',
    { asks: [{ ...ask, caption: 'a blue boat' }] },
    'json of acme at 0.0 s: "a blue boat" instead of "a red fish"',
  ],
  ['wrong', { asks: [{ ...ask, caption: undefined, refused: '400 no' }] }, 'json of acme at 0.0 s: 400 no'],
  [
    'wrong',
    { attempts: [{ route: 'GET /v1/files', status: 500, code: 'internal_error', fromMs: 0, toMs: 1 }] },
    'GET /v1/files: 500 internal_error',
  ],
  [
    'wrong',
    { attacks: { images: { '500 internal_error': 2 } } },
    'attack images: 500 internal_error, 2 times',
  ],
  [
    'wrong',
    { batches: [{ ...run, batch: { ...run.batch!, status: 'expired' } }] },
    'batch_1 of acme is expired',
  ],
  ['crashed', { crashed: ['edge-0 ended by itself'] }, 'edge-0 ended by itself'],
  ['leaked', { leaked: ['edge-0: handles 900'] }, 'edge-0: handles 900'],
  [
    'slow',
    { asks: [{ ...ask, fromMs: 3000, toMs: 3300 }] },
    'p99 of honest callers is 300 ms, 3.00 times the 100 ms of the calm; 2 times is allowed',
  ],
])('%s: %j', (kind, observed, message) => {
  const verdict = verdictOf(observed)
  expect(isClean(verdict)).toBe(false)
  expect(verdict).toMatchObject({ [kind]: [message] })
  expect(describeVerdict(verdict)).toContain(`${kind} 1\n  ${message}`)
})

test('transient answers and broken connections of honest callers are no fault: they ask again', () => {
  const attempts = [0, 429, 503].map((status) => ({ route: 'POST /v1/captions', status, fromMs: 0, toMs: 1 }))
  expect(isClean(verdictOf({ attempts }))).toBe(true)
})

test('a run without requests proves nothing', () => {
  const journal = { asks: [], batches: [], attempts: [] }
  expect(judge({ ...clean, journal, maxRatio: undefined }).verdict.lost).toEqual(['nothing was asked for'])
})

test('a run that was ended early is judged by what had its result', () => {
  const asks = [{ ...ask, toMs: undefined, caption: undefined }]
  const batches = [{ ...run, errors: undefined }]
  expect(isClean(verdictOf({ asks, batches, interrupted: true }))).toBe(true)
  expect(isClean(verdictOf({ asks: [{ ...ask, doubled: '200 {}' }], interrupted: true }))).toBe(false)
})

test('waiting is judged only where that is asked for, and needs something to judge', () => {
  const asks = [{ ...ask, fromMs: 3000, toMs: 3300 }]
  expect(verdictOf({ asks, maxRatio: undefined }).slow).toEqual([])
  expect(verdictOf({ outages: [{ fromMs: 1000, toMs: 9000 }] }).slow).toHaveLength(1)
})
