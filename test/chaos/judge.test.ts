import { expect, test } from 'vitest'
import type { Ask } from './captions.ts'
import { honestLatency } from './latency.ts'
import { findLeaks, type Held } from './leaks.ts'
import { parseTcp } from './processes.ts'

const ask = (fromMs: number, tookMs: number, more: Partial<Ask> = {}): Ask => ({
  form: 'raw',
  tenant: 'acme',
  expected: 'a red fish',
  caption: 'a red fish',
  fromMs,
  toMs: fromMs + tookMs,
  accepted: true,
  doubled: false,
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

const held = (name: string, more: Partial<Held['holdings']> = {}): Held => ({
  name,
  role: name.split('-')[0]!,
  holdings: {
    rssMb: 300,
    handles: 60,
    s3Sockets: 4,
    kafkaSockets: 5,
    forgottenSockets: 0,
    children: 1,
    threads: 20,
    ...more,
  },
})
const calm = [held('edge-0'), held('edge-1', { handles: 70 }), held('processor-0', { rssMb: 500 })]

test('what a role held in the calm is no leak, nor is a little more', () => {
  const after = [held('edge-0', { handles: 80, rssMb: 400 }), held('processor-0', { rssMb: 850 })]
  expect(findLeaks(calm, after)).toEqual([])
})

test.each([
  ['handles', 95],
  ['s3Sockets', 30],
  ['kafkaSockets', 12],
  ['forgottenSockets', 1],
  ['children', 2],
  ['threads', 60],
  ['rssMb', 900],
] as const)('a leak of %s is found', (field, value) => {
  const leaks = findLeaks(calm, [held('edge-1', { [field]: value }), held('processor-0')])
  expect(leaks).toEqual([expect.stringMatching(`^edge-1: ${field} ${value}, in the calm at most `)])
})

test('reads the sockets of the kernel', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:D431 0100007F:2384 08 00000000:00000000 02:000003B1 00000000  1000        0 5678 2 0000000000000000 20 4 30 10 -1
`
  expect(parseTcp(table)).toEqual([
    { remotePort: 0, state: '0A', inode: '1234' },
    { remotePort: 0x2384, state: '08', inode: '5678' },
  ])
})
