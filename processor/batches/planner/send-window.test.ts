import { expect, test } from 'vitest'
import { newBatch } from '../../../edge/contract/batch.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { OwnedObject } from '../../../infra/store/owned-object.ts'
import { firstAttempt } from './attempt.ts'
import { SendWindow } from './send-window.ts'
import { BatchState } from './state.ts'

/** A batch with lines to run, due in `hours`. */
function batchOf(tenant: string, hours = 24): BatchState {
  const object = new OwnedObject(memoryStore().store, 'x', undefined)
  const batch = newBatch({
    id: 'batch_1',
    endpoint: '/v1/captions',
    model: 'm',
    input_file_id: 'file-1',
    completion_window: '24h',
    created_at: 0,
    expires_at: hours * 3600,
    metadata: null,
    turbine: { max_prune: 1 },
  })
  const state = new BatchState({
    stored: { tenant, batch },
    before: undefined,
    attempt: firstAttempt,
    since: 0,
    batchObject: object,
    progressObject: object,
  })
  state.work.plan([], 1000)
  state.work.usable = 1000
  return state
}

const sizes = (batches: BatchState[]) => {
  const window = new SendWindow(() => batches)
  return batches.map((batch) => window.sizeFor(batch, 1000))
}

test('tenants have equal shares, however many batches one has', () => {
  const [lone, ...many] = sizes([batchOf('a'), ...Array.from({ length: 20 }, () => batchOf('b'))])
  expect(lone).toBeGreaterThanOrEqual(4)
  expect(new Set(many)).toEqual(new Set([2]))
})

test('of the batches of one tenant those due first send, and the others wait', () => {
  const batches = Array.from({ length: 300 }, (_, i) => batchOf('b', 400 - i))
  expect(sizes(batches).map((size) => size > 0)).toEqual(batches.map((_, i) => i >= 268))
})
