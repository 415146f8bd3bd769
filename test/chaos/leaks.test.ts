import { expect, test } from 'vitest'
import { findLeaks, type Held } from './leaks.ts'

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
