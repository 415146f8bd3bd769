import { expect, test, vi } from 'vitest'
import { backoffMs, isRetriable, parseRetryAfter, type RetryOptions, retry, retryAfterMs } from './retry.ts'

const failure = (details: object = { retriable: true }) => Object.assign(new Error('away'), details)

/** Work that fails with each error in turn and then gives `done`; the pauses are only noted. */
async function run(errors: Error[], options: RetryOptions = {}) {
  const left = [...errors]
  const pauses: number[] = []
  const sleep = async (ms: number) => void pauses.push(ms)
  const result = await retry(
    async () => {
      const error = left.shift()
      if (error) throw error
      return 'done'
    },
    { sleep, ...options },
  ).catch((error: unknown) => error)
  return { result, pauses }
}

test('doubles from 100 ms and stays at 10 s', () => {
  expect([1, 2, 3, 7, 8, 2000].map(backoffMs)).toEqual([100, 200, 400, 6400, 10_000, 10_000])
})

test('work is tried again until it succeeds, with a pause after each failure', async () => {
  const onFailure = vi.fn()
  const errors = [failure(), failure(), failure()]
  expect(await run(errors, { onFailure })).toEqual({ result: 'done', pauses: [100, 200, 400] })
  expect(onFailure.mock.calls).toEqual(errors.map((error) => [error]))
})

test('what cannot succeed later is thrown at once, and told nobody of', async () => {
  const onFailure = vi.fn()
  const error = failure({ retriable: false })
  expect(await run([failure(), error], { onFailure })).toEqual({ result: error, pauses: [100] })
  expect(onFailure).toHaveBeenCalledTimes(1)
  expect([failure(), failure({}), 'text', undefined].map(isRetriable)).toEqual([true, false, false, false])
})

test('the last of the tries throws its error, without a pause after it', async () => {
  const errors = [failure(), failure(), failure()]
  expect(await run(errors, { tries: 3 })).toEqual({ result: errors[2], pauses: [100, 200] })
})

test('the caller says what is repeated and how long the pauses are', async () => {
  const result = await run([failure({ retryAfterMs: 7 }), failure({})], {
    retriable: (_, failures) => failures < 3,
    pauseMs: (failures, error) => retryAfterMs(error) ?? failures * 1000,
  })
  expect(result).toEqual({ result: 'done', pauses: [7, 2000] })
})

test('the pause that an error asks for', () => {
  expect(retryAfterMs(failure({ retryAfterMs: 5, retryAfterSeconds: 1 }))).toBe(5)
  expect(retryAfterMs(failure({ retryAfterSeconds: 2 }))).toBe(2000)
  expect(retryAfterMs(failure())).toBeUndefined()
})

test('a signal ends the pause with its reason', async () => {
  const stopping = new AbortController()
  const work = vi.fn(async () => {
    throw failure()
  })
  const reason = new Error('stopped')
  const retried = retry(work, { pauseMs: () => 60_000, signal: stopping.signal })
  await Promise.resolve()
  stopping.abort(reason)
  await expect(retried).rejects.toBe(reason)
  expect(work).toHaveBeenCalledTimes(1)
})

test.each([
  [null, undefined],
  ['2', 2000],
  ['0', 0],
  ['99999999999', 300_000],
  ['-1', undefined],
  ['1e9', undefined],
  ['', undefined],
  ['soon', undefined],
  ['1.5', 1500],
  [' 2 ', 2000],
  ['Fri, 27 Nov 2026 07:00:02 GMT', 2000],
  ['Fri, 27 Nov 2026 06:59:00 GMT', 0],
  ['Friday, 27-Nov-26 07:00:02 GMT', 2000],
  ['Fri Nov 27 07:00:02 2026', 2000],
  ['Sat, 28 Nov 2026 07:00:00 GMT', 300_000],
  ['Fri, 27 Nov 2026', undefined],
])('a Retry-After of %j is a pause of %j ms', (header, ms) => {
  const now = Date.parse('2026-11-27T07:00:00Z')
  expect(parseRetryAfter(header, { now })).toBe(ms)
})
