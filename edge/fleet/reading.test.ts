import { expect, test } from 'vitest'
import { ConfigError } from '../../infra/config.ts'
import { starter } from '../app.fixture.ts'
import { assertAliases, idleIgnores } from './reading.ts'

const served = () => [starter, { ...starter, id: 'owner/blip' }]

test.each<Record<string, string>>([
  {},
  { 'gpt-4o-mini': 'starter' },
  { '*': 'owner/blip', 'gpt-4o': 'starter' },
])('%j are aliases of served models', (modelAliases) =>
  expect(assertAliases({ modelAliases }, served)).resolves.toBeUndefined(),
)

test.each<[Record<string, string>, string]>([
  [
    { 'gpt-4o-mini': 'blip' },
    '"gpt-4o-mini" stands for "blip", which is not served. Served: starter, owner/blip.',
  ],
  [{ '*': 'blip' }, '"*" stands for "blip", which is not served.'],
  [{ starter: 'owner/blip' }, '"starter" is the id of a model.'],
])('%j are refused', async (modelAliases, message) => {
  const asserted = assertAliases({ modelAliases }, served)
  await expect(asserted).rejects.toThrow(ConfigError)
  await expect(asserted).rejects.toThrow(message)
})

test.each([
  ['has none yet', async () => []],
  ['cannot be asked', () => Promise.reject(new Error('away'))],
])('a fleet that %s is not asked', (_name, models) =>
  expect(assertAliases({ modelAliases: { a: 'b' } }, models)).resolves.toBeUndefined(),
)

test.each([
  ['temperature', []],
  ['*', []],
  ['my_own_field', []],
  [
    'tempreature',
    ['TURBINE_IGNORE_PARAMETERS: "tempreature" is no known parameter. Did you mean "temperature"?'],
  ],
  ['max_tokens', ['TURBINE_IGNORE_PARAMETERS: "max_tokens" has no effect, since it is honoured.']],
])('of %s as an ignored parameter is told: %j', (name, told) => expect(idleIgnores([name])).toEqual(told))
