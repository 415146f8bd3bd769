import { totalmem } from 'node:os'
import process from 'node:process'
import { afterEach, expect, it, vi } from 'vitest'
import { memoryLimit } from './memory.ts'

afterEach(() => vi.restoreAllMocks())

it.each([
  ['the limit of a container', 2 ** 29, 2 ** 29],
  ['the memory of the machine without a limit', 0, totalmem()],
  ['the memory of the machine under a limit beyond it', 2 ** 63, totalmem()],
])('is %s', (_, constrained, expected) => {
  vi.spyOn(process, 'constrainedMemory').mockReturnValue(constrained)
  expect(memoryLimit()).toBe(expected)
})
