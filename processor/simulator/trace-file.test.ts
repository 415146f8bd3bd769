import { expect, test } from 'vitest'
import { SimulationInputError } from './errors.ts'
import { parseTrace } from './trace-file.ts'

test('reads CSV by the names of its columns, in the order of time', () => {
  const text = 'lane,at_ms,max_prune,note\nbatch,20.5,0.25,x\n\ninteractive,10,,"y"\n'
  expect(parseTrace(text, 'trace.csv')).toEqual([
    { at: 10, lane: 'interactive' },
    { at: 20.5, maxPrune: 0.25, lane: 'batch' },
  ])
})

test('reads a JSON object a line', () => {
  const text = '{"at_ms": 0, "deadline_ms": 200}\n{"at_ms": 1, "max_prune": 0}\n'
  expect(parseTrace(text, 'trace.jsonl')).toEqual([
    { at: 0, deadlineMs: 200 },
    { at: 1, maxPrune: 0 },
  ])
})

test.each([
  ['at_ms\n1\nsoon\n', /trace, line 3: at_ms/],
  ['at_ms,max_prune\n1,2\n', /trace, line 2: max_prune/],
  ['at_ms,lane\n1,express\n', /trace, line 2: lane/],
  ['at_ms,deadline_ms\n,5\n', /trace, line 2: at_ms/],
  ['{"at_ms": 1}\n{"at_ms": \n', /trace, line 2: invalid JSON/],
  ['when\n1\n', /trace, line 1: missing column "at_ms"/],
  ['at_ms\n', /trace has no arrivals/],
  ['', /at_ms/],
])('refuses %j and names what is wrong', (text, message) => {
  expect(() => parseTrace(text, 'trace')).toThrow(SimulationInputError)
  expect(() => parseTrace(text, 'trace')).toThrow(message)
})
