import { describe, expect, test } from 'vitest'
import type { Batch } from '../../../edge/contract/batch.ts'
import { emptyTally } from '../../../edge/contract/shard.ts'
import { begun, cancelling, concluded, dueAt, finalizing, withCounts } from './status.ts'

const fresh = {
  id: 'batch_1',
  status: 'validating',
  in_progress_at: null,
  finalizing_at: null,
  cancelling_at: null,
  cancelled_at: null,
  completed_at: null,
  turbine: { max_prune: 1, counting: true, prune_ratio_mean: null },
} as unknown as Batch

const conclusion = { outputFileId: 'file-1', errorFileId: null, errors: [] }

describe('stamps', () => {
  test('a batch that completes', () => {
    const running = begun(fresh, 1_999)
    expect(running).toMatchObject({ status: 'in_progress', in_progress_at: 1 })
    expect(begun(running, 9_000)).toBe(running)
    const ending = finalizing(running, 'completed', 5_000)
    expect(ending).toMatchObject({ status: 'finalizing', finalizing_at: 5 })
    // Another planner goes on with it.
    expect(finalizing(ending, 'completed', 7_000).finalizing_at).toBe(5)
    expect(concluded(ending, { ending: 'completed', ...conclusion }, 8_000)).toMatchObject({
      status: 'completed',
      completed_at: 8,
      cancelled_at: null,
      output_file_id: 'file-1',
      error_file_id: null,
      errors: null,
    })
  })

  test('a batch that is cancelled stays cancelling until it is over', () => {
    const stopping = cancelling(begun(fresh, 1_000), 3)
    expect(cancelling(stopping, 9)).toBe(stopping)
    const ending = finalizing(stopping, 'cancelled', 5_000)
    expect(ending).toMatchObject({ status: 'cancelling', cancelling_at: 3, finalizing_at: 5 })
    expect(concluded(ending, { ending: 'cancelled', ...conclusion }, 6_000)).toMatchObject({
      status: 'cancelled',
      cancelled_at: 6,
    })
  })

  test('a batch that fails never was in progress', () => {
    const error = { code: 'empty_batch', message: '', param: null, line: null }
    const batch = concluded(
      finalizing(fresh, 'failed', 5_000),
      { ending: 'failed', ...conclusion, errors: [error] },
      6_000,
    )
    expect(batch).toMatchObject({
      status: 'failed',
      failed_at: 6,
      finalizing_at: null,
      errors: { object: 'list', data: [error] },
    })
  })
})

test('counts, usage and mean are of what was captioned', () => {
  const tally = {
    ...emptyTally,
    completed: 4,
    failed: 1,
    inputTokens: 40,
    outputTokens: 8,
    pruneRatioSum: 1,
  }
  expect(withCounts(fresh, { lines: 9, tally, counting: false })).toMatchObject({
    request_counts: { total: 9, completed: 4, failed: 1 },
    usage: { input_tokens: 40, output_tokens: 8, total_tokens: 48 },
    turbine: { max_prune: 1, counting: false, prune_ratio_mean: 0.25 },
  })
  expect(withCounts(fresh, { lines: 9, tally: emptyTally, counting: true })).toMatchObject({
    usage: null,
    turbine: { counting: true, prune_ratio_mean: null },
  })
})

test.each([
  ['a minute', 60, 5],
  ['an hour', 3600, 180],
  ['a day', 86_400, 600],
])('a batch of %s is to be done before it expires', (_, seconds, reserveSeconds) => {
  expect(dueAt({ created_at: 1000, expires_at: 1000 + seconds })).toBe(
    1000 * (1000 + seconds - reserveSeconds),
  )
})
