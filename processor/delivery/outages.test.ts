import { expect, test } from 'vitest'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { Changes } from '../batches/planner/progress.ts'
import { settle, VirtualClock } from '../batches/planner/virtual-clock.fixture.ts'
import { Outages } from './outages.ts'

function outages() {
  const clock = new VirtualClock()
  const told: string[] = []
  const tell = (_: object, message: string) => void told.push(message)
  return { clock, told, outages: new Outages({ clock, log: { info: tell, warn: tell } }) }
}

const { signal } = new AbortController()

test('work is done again until it succeeds; the log tells of it once', async () => {
  const { clock, told, outages: both } = outages()
  let away = true
  let tries = 0
  const work = async () => {
    tries++
    if (away) throw new StoreUnavailableError('away')
    return tries
  }
  const results = Promise.all([both.outlast(work, signal), both.outlast(work, signal)])
  await clock.advance(60_000)
  expect(told).toEqual(['store or stream unavailable, batches paused'])
  expect(tries).toBeLessThan(40)
  away = false
  await clock.advance(10_000)
  await results
  expect(told).toEqual(['store or stream unavailable, batches paused', 'outage over, batches resumed'])
})

test('work that comes again anyway lets an outage pass', async () => {
  const { told, outages: passing } = outages()
  const attempt = passing.attempts()
  const fail = () => Promise.reject(new StoreUnavailableError('away'))
  await attempt(fail)
  await attempt(fail)
  expect(told).toEqual(['store or stream unavailable, batches paused'])
  await attempt(async () => {})
  await attempt(fail)
  expect(told).toHaveLength(3)
  await expect(attempt(() => Promise.reject(new TypeError('bug')))).rejects.toThrow('bug')
})

test('other errors are not held, and nothing is held for ever', async () => {
  const { clock, outages: held } = outages()
  await expect(held.outlast(() => Promise.reject(new TypeError('bug')), signal)).rejects.toThrow('bug')
  const stop = new AbortController()
  const waiting = held.outlast(() => Promise.reject(new StoreUnavailableError('away')), stop.signal)
  waiting.catch(() => {})
  await clock.advance(1_000)
  stop.abort(new Error('stopped'))
  await expect(waiting).rejects.toThrow('stopped')
})

test('changes wake all who wait, and so does the end', async () => {
  const changes = new Changes()
  const woken: string[] = []
  const stop = new AbortController()
  const wait = async (name: string) => {
    await changes.next(stop.signal)
    woken.push(name)
  }
  const waits = [wait('a'), wait('b')]
  changes.announce()
  await Promise.all(waits)
  expect(woken).toEqual(['a', 'b'])
  const late = wait('c')
  late.catch(() => {})
  await settle()
  stop.abort(new Error('over'))
  await expect(late).rejects.toThrow('over')
  await expect(changes.next(stop.signal)).rejects.toThrow('over')
})
