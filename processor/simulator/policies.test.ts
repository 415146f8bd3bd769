import { expect, test } from 'vitest'
import { SimulationInputError } from './errors.ts'
import { parsePolicies } from './policies.ts'

const levels = [0, 0.3, 0.6].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio }))

test('reads a list of policies, each once', () => {
  expect(parsePolicies('full, level:2,full', levels)).toEqual([
    { name: 'full', level: 0, autoscale: false },
    { name: 'level:2', level: 2, autoscale: false },
  ])
})

test('all are the named ones and every level that prunes', () => {
  expect(parsePolicies('all', levels).map(({ name }) => name)).toEqual([
    'adaptive',
    'adaptive-fixed-fleet',
    'autoscale-full',
    'full',
    'level:1',
    'level:2',
  ])
})

test.each(['level:3', 'level:', 'fast', ''])('refuses %j and names what there is', (text) => {
  expect(() => parsePolicies(text, levels)).toThrow(SimulationInputError)
  expect(() => parsePolicies(text, levels)).toThrow(/level:N.*0 to 2/)
})
