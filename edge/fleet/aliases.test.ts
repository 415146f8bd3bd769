import { expect, test } from 'vitest'
import { ConfigError } from '../../infra/config.ts'
import { starter } from '../app.fixture.ts'
import { assertAliases } from './aliases.ts'

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
