import { expect, test } from 'vitest'
import { ImageError } from '../errors.ts'
import { imageFaults } from './faults.ts'
import { fetchPatiently, type PatientOptions } from './patient.ts'

const { signal } = new AbortController()
const silence = () => imageFaults.timedOut(10)
const busy = (afterMs?: number) => imageFaults.badStatus({ status: 429, host: 'a.com', afterMs })

/** Fetches that fail so, then succeed; on a clock of its own. */
async function fetching(failures: ImageError[], options: Partial<PatientOptions> = {}) {
  let now = 1_000_000
  const pauses: number[] = []
  const since: (number | undefined)[] = []
  const fetched = fetchPatiently(
    async (failedSince) => {
      since.push(failedSince)
      now += 10
      const failure = failures[since.length - 1]
      if (failure) throw failure
      return 'image'
    },
    {
      ...{ signal, now: () => now, random: () => 1 },
      sleep: async (ms) => {
        pauses.push(ms)
        now += ms
      },
      ...options,
    },
  )
  const end = await fetched.catch((error: unknown) => error)
  return { end, pauses, since }
}

test('a host that asks for less is asked again after growing pauses, up to a minute', async () => {
  const { end, pauses } = await fetching(Array.from({ length: 9 }, () => busy()))
  expect(end).toBe('image')
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])
})

test('a host that does not answer is asked seldom', async () => {
  const { end, pauses } = await fetching(Array.from({ length: 6 }, silence))
  expect(end).toBe('image')
  expect(pauses).toEqual([5_000, 20_000, 80_000, 300_000, 300_000, 300_000])
})

test('pauses are drawn from zero on', async () => {
  const { pauses } = await fetching([busy(), busy()], { random: () => 0.25 })
  expect(pauses).toEqual([250, 500])
})

test('a fault for good ends it', async () => {
  const gone = new ImageError('image_not_found', 'gone')
  expect((await fetching([busy(), gone])).end).toBe(gone)
})

test('each try is told since when it fails, with an answer or without one', async () => {
  const { since } = await fetching([busy(), busy(), silence(), silence()])
  expect(since).toEqual([undefined, 1_000_010, 1_000_010, 1_003_030, 1_003_030])
})

test.each([
  ['the pause', busy(), 1_000_900, 1],
  ['what its host asks for', busy(7_000), 1_006_000, 1],
  ['what its host asks for', busy(1_000), 1_006_000, 2],
])('who has less time than %s is told at once', async (_, fault, until, tries) => {
  const { end, since } = await fetching([fault], { until })
  expect(since).toHaveLength(tries)
  expect(end).toBe(tries === 1 ? fault : 'image')
})

test('a signal ends the pause with its reason', async () => {
  const leaving = new AbortController()
  const { end } = await fetching([busy(), busy()], {
    signal: leaving.signal,
    sleep: async () => leaving.abort('left'),
  })
  expect(end).toBe('left')
})
