import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ImageError } from '../errors.ts'
import { HostFault, imageFaults } from './faults.ts'
import { HostPaces, type HostPacesOptions, type Visit } from './host-paces.ts'
import { fetchPatiently } from './patient.ts'
import { RateHost, type RateHostOptions } from './rate-host.fixture.ts'

beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }))
afterEach(() => void vi.useRealTimers())

const { signal } = new AbortController()
/** The same numbers in every run. */
function seeded(seed = 1): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    return state / 2 ** 31
  }
}

const visitAt = (host: string, options: Partial<Visit> = {}): Visit => ({
  owner: 'acme',
  host,
  signal,
  ...options,
})

/** Fetches as many images as that, as the lines of a batch do; how long it took, s. */
async function fetchAll(hosts: HostPaces, host: RateHost, count: number, name = 'limited.example') {
  const startedAt = Date.now()
  let doneAt = startedAt
  const random = seeded(7)
  const all = Array.from({ length: count }, () =>
    fetchPatiently((failedSince) => hosts.visit(visitAt(name, { failedSince }), () => host.ask()), {
      ...{ signal, random },
    }).then(() => {
      doneAt = Date.now()
    }),
  )
  let settled = false
  const done = Promise.all(all).finally(() => {
    settled = true
  })
  while (!settled) await vi.advanceTimersByTimeAsync(10)
  await done
  return (doneAt - startedAt) / 1000
}

const paces = (options: HostPacesOptions = {}) => new HostPaces({ random: seeded(), ...options })

describe('a host that limits its callers', () => {
  test.each<[string, RateHostOptions, { count: number; reached: number }]>([
    ['10 a second, and says when to come back', { rate: 10, afterMs: 1000 }, { count: 400, reached: 0.9 }],
    ['10 a second with 503', { rate: 10, afterMs: 1000, status: 503 }, { count: 400, reached: 0.9 }],
    ['10 a second, and says nothing', { rate: 10 }, { count: 400, reached: 0.9 }],
    [
      '10 a second, and saves nothing up',
      { rate: 10, burst: 1, afterMs: 1000 },
      { count: 1000, reached: 0.75 },
    ],
    ['1 a second', { rate: 1, afterMs: 1000 }, { count: 120, reached: 0.85 }],
    ['100 a second', { rate: 100, afterMs: 1000 }, { count: 4000, reached: 0.9 }],
    ['100 a second, far away', { rate: 100, latencyMs: 500, afterMs: 2000 }, { count: 4000, reached: 0.75 }],
    [
      '10 a second, and asks for long pauses',
      { rate: 10, burst: 100, afterMs: 30_000 },
      { count: 1000, reached: 0.5 },
    ],
  ])('of %s gives all of them, at its rate', async (_, options, { count, reached }) => {
    const host = new RateHost(options)
    const seconds = await fetchAll(paces(), host, count)
    expect(host.delivered).toBe(count)
    expect(host.overLimitShare).toBeLessThanOrEqual(0.1)
    expect(count / seconds / options.rate).toBeGreaterThanOrEqual(reached)
  })

  test('shares what it gives between processes, without a word between them', async () => {
    const host = new RateHost({ rate: 20, afterMs: 1000 })
    const [one, other] = [paces({ random: seeded(3) }), paces({ random: seeded(5) })]
    const seconds = await Promise.all([fetchAll(one, host, 500), fetchAll(other, host, 500)])
    expect(host.overLimitShare).toBeLessThanOrEqual(0.1)
    expect(1000 / Math.max(...seconds) / 20).toBeGreaterThanOrEqual(0.85)
    expect(Math.min(...seconds) / Math.max(...seconds)).toBeGreaterThanOrEqual(0.7)
  })

  test('slows no other host, and holds nothing that it needs', async () => {
    const hosts = paces()
    const free = () => new RateHost({ rate: 1e6 })
    const alone = await fetchAll(paces(), free(), 400, 'free.example')
    const slow = fetchAll(hosts, new RateHost({ rate: 10, afterMs: 1000 }), 400)
    expect(await fetchAll(hosts, free(), 400, 'free.example')).toBeCloseTo(alone)
    await slow
  })

  test('that comes to give much more is asked for it', async () => {
    const hosts = paces()
    await fetchAll(hosts, new RateHost({ rate: 10, afterMs: 1000 }), 200)
    const seconds = await fetchAll(hosts, new RateHost({ rate: 1e6 }), 2000)
    expect(seconds).toBeLessThan(60)
  })
})

/** A host whose requests end as told. */
function told(hosts = paces()) {
  const asked: number[] = []
  const visit = (end: unknown, options: Partial<Visit> = {}) =>
    hosts.visit(visitAt('host.example', options), async () => {
      asked.push(Date.now())
      if (end instanceof Error) throw end
      return end
    })
  const fail = async (times: number, error: Error, options?: Partial<Visit>) => {
    for (let i = 0; i < times; i++) {
      const failed = expect(visit(error, options)).rejects.toThrow()
      await vi.advanceTimersByTimeAsync(70_000)
      await failed
    }
  }
  return { hosts, asked, visit, fail }
}

const busy = (afterMs?: number) => imageFaults.badStatus({ status: 429, host: 'host.example', afterMs })
const silence = () => imageFaults.timedOut(10)

describe('settings', () => {
  test('bound the requests at a time', async () => {
    const hosts = paces({ concurrency: 3 })
    let [now, most] = [0, 0]
    const all = Array.from({ length: 50 }, () =>
      hosts.visit(visitAt('a'), async () => {
        most = Math.max(most, ++now)
        await new Promise((resolve) => setTimeout(resolve, 10))
        now--
      }),
    )
    await vi.advanceTimersByTimeAsync(1000)
    await Promise.all(all)
    expect(most).toBe(3)
  })

  test('bound the rate from the first request on', async () => {
    const host = new RateHost({ rate: 1e6 })
    expect(await fetchAll(paces({ rate: 5 }), host, 51)).toBeCloseTo(10, 0)
  })
})

describe('Retry-After', () => {
  test('of a host is waited out by all of its requests', async () => {
    const { visit, asked } = told()
    await expect(visit(busy(30_000))).rejects.toMatchObject({ code: 'image_host_rate_limited' })
    const next = visit('image')
    await vi.advanceTimersByTimeAsync(29_900)
    expect(asked).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await next).toBe('image')
  })

  test('of many hours is an hour', async () => {
    const { visit } = told()
    await visit(busy(86_400_000)).catch(() => {})
    const next = visit('image')
    await vi.advanceTimersByTimeAsync(3_602_000)
    expect(await next).toBe('image')
  })
})

describe('who waits', () => {
  test('goes in order of priority, then of arrival', async () => {
    const { visit } = told(paces({ rate: 10 }))
    const order: string[] = []
    const go = (name: string, priority: number) => visit(name, { priority }).then(() => order.push(name))
    const all = [go('first', 5), go('late', 9), go('soon', 1), go('later', 9), go('sooner', 0)]
    await vi.advanceTimersByTimeAsync(1000)
    await Promise.all(all)
    expect(order).toEqual(['first', 'late', 'sooner', 'soon', 'later'])
  })

  test('leaves with the reason of the signal, and is told why it waits', async () => {
    const { hosts, visit } = told()
    await visit(busy(60_000)).catch(() => {})
    const leaving = new AbortController()
    const causes: string[] = []
    const waiting = visit('image', {
      signal: leaving.signal,
      onWait: (cause) => causes.push(String(cause?.message)),
    })
    await vi.advanceTimersByTimeAsync(10)
    expect(hosts.waiting).toBe(1)
    leaving.abort(new Error('left'))
    await expect(waiting).rejects.toThrow('left')
    expect(causes.join()).toContain('status 429 (too many requests, Retry-After: 60 s)')
    expect([hosts.waiting, vi.getTimerCount()]).toEqual([0, 0])
  })

  test('is told when its host begins to fail, and of what it failed with last', async () => {
    const { hosts, visit } = told(paces({ concurrency: 1 }))
    const leaving = new AbortController()
    const causes: string[] = []
    const first = Promise.withResolvers<never>()
    const failing = hosts.visit(visitAt('host.example'), () => first.promise).catch(() => {})
    const onWait: Visit['onWait'] = (cause) => causes.push(String(cause?.message))
    const waiting = visit('image', { signal: leaving.signal, priority: 1, onWait }).catch(() => {})
    await vi.advanceTimersByTimeAsync(10)
    expect(causes).toEqual([])
    first.reject(busy(1_000))
    await failing
    expect(causes).toEqual([expect.stringContaining('Retry-After: 1 s')])
    const second = visit(busy(60_000)).catch(() => {})
    await vi.advanceTimersByTimeAsync(1_500)
    await second
    leaving.abort(new Error('left'))
    await waiting
    expect(causes.at(-1)).toContain('Retry-After: 60 s')
  })

  test('with little time is refused at once where the host asks for more, and says how much', async () => {
    const { visit, asked } = told()
    await visit(busy(60_000)).catch(() => {})
    await expect(visit('image', { waitMs: 5_000 })).rejects.toMatchObject({
      ...{ code: 'image_host_rate_limited', status: 429, retriable: true },
      retryAfterSeconds: expect.toSatisfy((seconds: number) => seconds >= 60 && seconds <= 61),
    })
    expect(asked).toHaveLength(1)
  })

  test('with little time waits for a place among others no longer than that', async () => {
    const hosts = paces({ concurrency: 1 })
    void hosts.visit(visitAt('a'), () => new Promise(() => {}))
    const late = expect(hosts.visit(visitAt('a', { waitMs: 100 }), async () => 1)).rejects.toMatchObject({
      code: 'too_many_fetches',
    })
    await vi.advanceTimersByTimeAsync(100)
    await late
  })

  test('for one owner waits for no failure that another has met', async () => {
    const { visit } = told()
    await visit(busy(60_000)).catch(() => {})
    expect(await visit('image', { owner: 'other' })).toBe('image')
  })
})

describe('a host that does not answer', () => {
  test('is left alone after eight times in a row; then one request tries it, and the others follow', async () => {
    const { hosts, visit, asked } = told()
    for (let i = 0; i < 8; i++) await visit(silence()).catch(() => {})
    await expect(visit('image', { waitMs: 10_000 })).rejects.toMatchObject({
      ...{ code: 'image_url_timeout', status: 503, retryAfterSeconds: 5 },
    })
    const answer = Promise.withResolvers<string>()
    const probe = hosts.visit(visitAt('host.example'), () => answer.promise)
    const others = Array.from({ length: 5 }, () => visit('image'))
    await vi.advanceTimersByTimeAsync(20_000)
    expect(asked).toHaveLength(8)
    answer.resolve('probe')
    await vi.advanceTimersByTimeAsync(10)
    expect(await Promise.all([probe, ...others])).toEqual(['probe', ...Array(5).fill('image')])
  })

  test('is left alone for longer each time, up to a minute', async () => {
    const { visit } = told()
    const waits: number[] = []
    for (let i = 0; i < 13; i++) {
      const startedAt = Date.now()
      const failed = visit(silence()).catch(() => waits.push(Math.round((Date.now() - startedAt) / 1000)))
      await vi.advanceTimersByTimeAsync(61_000)
      await failed
    }
    expect(waits.slice(0, 8)).toEqual(Array(8).fill(0))
    expect(waits.at(-1)).toBeLessThanOrEqual(60)
  })

  test.each([
    ['an image', 'image'],
    ['an answer that there is none', new ImageError('image_not_found', 'gone')],
  ])('and then gives %s begins the count anew', async (_, answer) => {
    const { visit } = told()
    for (let i = 0; i < 7; i++) await visit(silence()).catch(() => {})
    await visit(answer).catch(() => {})
    for (let i = 0; i < 7; i++) await visit(silence()).catch(() => {})
    expect(await visit('image', { waitMs: 0 })).toBe('image')
  })

  test('a caller who leaves says nothing of it', async () => {
    const { visit } = told()
    for (let i = 0; i < 20; i++) await visit(new Error('left')).catch(() => {})
    expect(await visit('image', { waitMs: 0 })).toBe('image')
  })

  test('is given up after its time: those that wait fail at once, and one tries it now and then', async () => {
    const { visit, fail, asked } = told(paces({ silentMs: 5 * 60_000 }))
    await fail(14, silence())
    const waiting = Array.from({ length: 100 }, () => visit(silence()))
    const before = asked.length
    const failed = await Promise.allSettled(
      waiting.map((each) =>
        expect(each).rejects.toMatchObject({ code: 'image_url_timeout', retriable: false }),
      ),
    )
    expect(failed.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(99)
    expect(asked.length - before).toBeLessThanOrEqual(1)
    await vi.advanceTimersByTimeAsync(61_000)
    expect(await visit('image')).toBe('image')
    expect(await visit('image')).toBe('image')
  })
})

describe('an address that fails while its host delivers others', () => {
  test.each([
    ['does not answer', silence()],
    ['is always refused', busy(0)],
    ['is always broken', imageFaults.badStatus({ status: 500, host: 'host.example' })],
  ])('%s: is given up after a while, the host is not', async (_, fault) => {
    const { visit } = told()
    const failedSince = Date.now()
    const trying = async () => {
      const failed = visit(fault, { failedSince }).catch((error: ImageError) => error.retriable)
      await vi.advanceTimersByTimeAsync(2_000)
      const retriable = await failed
      await visit('image')
      return retriable
    }
    expect(await trying()).toBe(true)
    for (let minute = 0; minute < 15; minute++) {
      await vi.advanceTimersByTimeAsync(60_000)
      await visit('image')
    }
    expect(await trying()).toBe(false)
    const last = visit('image')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await last).toBe('image')
  })
})

test('what is remembered of a host is bounded, and forgotten in time', async () => {
  const { visit } = told()
  await visit(busy(60_000)).catch(() => {})
  await vi.advanceTimersByTimeAsync(12 * 60_000)
  expect(await visit('image', { waitMs: 0 })).toBe('image')
  expect(imageFaults.timedOut(1)).toBeInstanceOf(HostFault)
})
