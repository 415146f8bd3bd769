import { describe, expect, it, test } from 'vitest'
import { availableCores, splitCores } from './cores.ts'

describe('availableCores', () => {
  const v2 = (text: string) => (path: string) => (path.endsWith('/cpu.max') ? text : undefined)
  const v1 = (quota: string) => (path: string) =>
    path.includes('quota') ? quota : path.includes('period') ? '100000\n' : undefined
  it.each([
    ['no container', () => undefined, 16],
    ['no limit', v2('max 100000\n'), 16],
    ['a limit', v2('400000 100000\n'), 4],
    ['a part of a core', v2('50000 100000\n'), 1],
    ['two and a half', v2('250000 100000\n'), 3],
    ['more than the machine has', v2('6400000 100000\n'), 16],
    ['nonsense', v2('nonsense'), 16],
    ['no limit of version 1', v1('-1\n'), 16],
    ['a limit of version 1', v1('200000\n'), 2],
  ])('%s', (_, read, cores) => {
    expect(availableCores({ parallelism: 16, read })).toBe(cores)
  })
})

test('cores are split between loaders and the model, or as they are set', () => {
  expect(splitCores({ cores: 8, onCpu: true })).toEqual({
    ...{ cores: 8, loaders: 4, decoders: 4, intraOpThreads: 8, poolThreads: 16 },
  })
  expect(splitCores({ cores: 16, onCpu: false })).toMatchObject({
    ...{ loaders: 16, decoders: 16, intraOpThreads: 1 },
  })
  expect(splitCores({ cores: 1, onCpu: true })).toMatchObject({ loaders: 1, decoders: 1, poolThreads: 4 })
  expect(splitCores({ cores: 8, onCpu: true, loaders: 2, decoders: 3, intraOpThreads: 5 })).toMatchObject({
    ...{ loaders: 2, decoders: 3, intraOpThreads: 5 },
  })
})
