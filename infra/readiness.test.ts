import { expect, test } from 'vitest'
import { createReadiness, storeProbe, withoutReasons } from './readiness.ts'

test('is ready when every probe fulfils, and says which does not and why', async () => {
  let away = false
  let time = 0
  const store = async () => {
    if (away) throw new Error('The object store is away.')
  }
  const readiness = createReadiness({ store, model: () => {} }, { keepMs: 1000, now: () => time })
  expect(await readiness()).toEqual({ ready: true, checks: { store: { ok: true }, model: { ok: true } } })
  away = true
  expect((await readiness()).ready).toBe(true)
  time = 1000
  expect(await readiness()).toEqual({
    ready: false,
    checks: { store: { ok: false, message: 'The object store is away.' }, model: { ok: true } },
  })
})

test('a probe that never answers is a failed one', async () => {
  const readiness = createReadiness({ stream: () => new Promise(() => {}) }, { timeoutMs: 1 })
  expect(await readiness()).toEqual({
    ready: false,
    checks: { stream: { ok: false, message: 'did not answer within 1 ms' } },
  })
})

test('strangers learn which check fails, and the log why, once for each change', async () => {
  const states = [true, false, false, true, false].map((ok) => ({
    ready: ok,
    checks: { store: ok ? { ok } : { ok, message: 'S3 at http://10.0.0.7 is away.' } },
  }))
  const logged: unknown[] = []
  const readiness = withoutReasons(() => states.shift()!, { warn: (fields) => logged.push(fields) })
  const told = [await readiness(), await readiness(), await readiness(), await readiness(), await readiness()]
  expect(told.map(({ ready }) => ready)).toEqual([true, false, false, true, false])
  expect(told[1]).toEqual({ ready: false, checks: { store: { ok: false } } })
  expect(logged).toHaveLength(2)
  expect(JSON.stringify(logged)).toContain('10.0.0.7')
})

test('a store that cannot be written is not ready; all share a write every 10 s', async () => {
  let time = 0
  let puts = 0
  let full = false
  const put = async () => {
    puts++
    if (full) throw new Error('no space left')
    return { etag: '' }
  }
  const probe = storeProbe({ put }, { key: 'ready', now: () => time })
  const readiness = createReadiness({ store: probe }, { keepMs: 0, now: () => time })
  for (let i = 0; i < 3; i++) expect((await readiness()).ready).toBe(true)
  expect(puts).toBe(1)
  time += 10_000
  full = true
  expect(await readiness()).toEqual({
    ready: false,
    checks: { store: { ok: false, message: 'no space left' } },
  })
  time += 2_000
  full = false
  expect((await readiness()).ready).toBe(true)
  expect(puts).toBe(3)
})
