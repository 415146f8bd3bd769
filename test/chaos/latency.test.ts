import { expect, test } from 'vitest'
import type { Ask } from './captions.ts'
import { honestLatency } from './latency.ts'

const ask = (fromMs: number, tookMs: number, more: Partial<Ask> = {}): Ask => ({
  form: 'raw',
  tenant: 'acme',
  expected: 'a red fish',
  caption: 'a red fish',
  fromMs,
  toMs: fromMs + tookMs,
  accepted: true,
  ...more,
})

test('the latency of a storm leaves out what touches an outage, and only that', () => {
  const calm = Array.from({ length: 10 }, (_, i) => ask(100 * i, 50))
  const storm = [
    ask(2000, 80),
    ask(2900, 5000), // waits for the outage to end
    ask(4000, 7000), // begins within it
    ask(8500, 120), // behind it
    ask(8600, 9000, { form: 'async' }), // does not wait
  ]
  const outages = [{ fromMs: 3000, toMs: 8000 }]
  expect(honestLatency([...calm, ...storm], { stormFromMs: 1500, outages })).toEqual({
    calmMs: 50,
    stormMs: 120,
    ratio: 2.4,
    calmCount: 10,
    stormCount: 2,
  })
  // An attack is no outage.
  expect(honestLatency([...calm, ...storm], { stormFromMs: 1500, outages: [] }).stormMs).toBe(7000)
})
