import { expect, test } from 'vitest'
import { ImageError } from '../errors.ts'
import { HostBreaker } from './host-breaker.ts'

const timeout = () => new ImageError('image_url_timeout', 'It did not deliver.', { retriable: true })

/** A breaker on a clock that stands still; what is fetched ends as told. */
function setUp() {
  const clock = { now: 0 }
  const hosts = new HostBreaker({ failures: 3, pauseMs: 5_000, maxPauseMs: 15_000, now: () => clock.now })
  let fetched = 0
  const visit = (error?: unknown, { owner = 'acme', origin = 'https://a.com' } = {}) => {
    const fetch = async () => {
      fetched++
      if (error !== undefined) throw error
      return 'image'
    }
    return hosts.visit({ owner, origin, outside: (work) => work }, fetch)
  }
  const fail = async (times: number) => {
    for (let i = 0; i < times; i++) await expect(visit(timeout())).rejects.toThrow('It did not deliver.')
  }
  return { clock, hosts, visit, fail, fetched: () => fetched }
}

test('a host that fails some times in a row is left alone for a while, and it is said for how long', async () => {
  const { clock, visit, fail, fetched } = setUp()
  await fail(3)
  clock.now = 2_000
  const refusal = visit()
  await expect(refusal).rejects.toMatchObject({
    code: 'image_url_unreachable',
    retriable: true,
    retryAfterSeconds: 3,
  })
  await expect(refusal).rejects.toThrow('failed 3 times in a row')
  await expect(refusal).rejects.toThrow('It did not deliver.')
  expect(fetched()).toBe(3)
  clock.now = 5_000
  expect(await visit()).toBe('image')
  expect(await visit()).toBe('image')
})

test('any answer begins the count anew', async () => {
  const { fail, visit, hosts } = setUp()
  await fail(2)
  await expect(visit(new ImageError('image_not_found', 'gone'))).rejects.toThrow('gone')
  await fail(2)
  await visit()
  expect(hosts.failing).toBe(0)
  await fail(2)
  expect(await visit()).toBe('image')
})

test('a caller who leaves says nothing of the host', async () => {
  const { fail, visit, fetched } = setUp()
  await fail(2)
  await expect(visit(new Error('the caller left'))).rejects.toThrow('the caller left')
  await fail(1)
  await expect(visit()).rejects.toMatchObject({ code: 'image_url_unreachable' })
  expect(fetched()).toBe(4)
})

test('a host is left alone for the owner who met it, and no other host', async () => {
  const { fail, visit } = setUp()
  await fail(3)
  await expect(visit()).rejects.toMatchObject({ code: 'image_url_unreachable' })
  expect(await visit(undefined, { owner: 'other' })).toBe('image')
  expect(await visit(undefined, { origin: 'https://b.com' })).toBe('image')
})

test('after the pause one tries it, the others wait for the outcome', async () => {
  const { clock, hosts, fail } = setUp()
  await fail(3)
  clock.now = 5_000
  const answer = Promise.withResolvers<string>()
  let fetched = 0
  const visits = Array.from({ length: 5 }, () =>
    hosts.visit({ owner: 'acme', origin: 'https://a.com', outside: (work) => work }, () => {
      fetched++
      return answer.promise
    }),
  )
  await new Promise((resolve) => setImmediate(resolve))
  expect(fetched).toBe(1)
  answer.resolve('image')
  expect(await Promise.all(visits)).toEqual(Array(5).fill('image'))
  expect(fetched).toBe(5)
})

test('a host that is still away is left alone for longer, up to a bound', async () => {
  const { clock, visit, fail } = setUp()
  await fail(3)
  for (const pauseS of [10, 15, 15]) {
    clock.now += 60_000
    await fail(1)
    await expect(visit()).rejects.toMatchObject({ retryAfterSeconds: pauseS })
  }
})

test('fetches that were under way when it was left alone make it no worse', async () => {
  const { clock, hosts, visit, fail } = setUp()
  const late = Promise.withResolvers<never>()
  const under = hosts.visit(
    { owner: 'acme', origin: 'https://a.com', outside: (work) => work },
    () => late.promise,
  )
  await fail(3)
  clock.now = 1_000
  late.reject(timeout())
  await expect(under).rejects.toThrow('It did not deliver.')
  await expect(visit()).rejects.toMatchObject({ retryAfterSeconds: 4 })
})
