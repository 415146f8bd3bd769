import { totalmem } from 'node:os'
import process from 'node:process'
import { afterEach, expect, it, vi } from 'vitest'
import { memoryLimit, workingMemory } from './memory.ts'

afterEach(() => vi.restoreAllMocks())

it.each([
  ['the limit of a container', 2 ** 29, 2 ** 29],
  ['the memory of the machine without a limit', 0, totalmem()],
  ['the memory of the machine under a limit beyond it', 2 ** 63, totalmem()],
])('is %s', (_, constrained, expected) => {
  vi.spyOn(process, 'constrainedMemory').mockReturnValue(constrained)
  expect(memoryLimit()).toBe(expected)
})

it.each([
  ['a quarter of the process’s memory', 0, 2 ** 30, 2 ** 28],
  ['at most 384 MiB', 0, 2 ** 36, 384 * 2 ** 20],
  ['what is set', 700, 2 ** 30, 700 * 2 ** 20],
])('is, for what is not done yet, %s', (_, setting, limit, expected) => {
  expect(workingMemory(setting, limit)).toBe(expected)
})
