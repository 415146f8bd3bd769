import { CommanderError } from 'commander'
import { expect, test } from 'vitest'
import { describeError, exitCodeOf, IncompleteError, InterruptedError, UsageError } from './errors.ts'

test('the exit code says what kind of end it was', () => {
  expect(exitCodeOf(new CommanderError(0, 'commander.helpDisplayed', ''))).toBe(0)
  expect(exitCodeOf(new CommanderError(1, 'commander.unknownOption', ''))).toBe(2)
  expect(exitCodeOf(new UsageError(''))).toBe(2)
  expect(exitCodeOf(new IncompleteError(''))).toBe(1)
  expect(exitCodeOf(new Error(''))).toBe(1)
  expect(exitCodeOf(Object.assign(new Error(''), { code: 'EPIPE' }))).toBe(141)
  expect(exitCodeOf(new InterruptedError(''))).toBe(130)
  expect(exitCodeOf(new InterruptedError('', 'SIGTERM'))).toBe(143)
})

test('an error is one line; stacks and causes are for debugging', () => {
  const error = new Error('It broke.\n  Badly.', { cause: new Error('the reason') })
  expect(describeError(error)).toBe('It broke. Badly.')
  const debug = describeError(error, { debug: true })
  expect(debug).toContain('errors.test.ts')
  expect(debug).toContain('caused by Error: the reason')
})

test.each([
  ['ENOSPC', 'write', /write\. Make room, and run the command again\.$/],
  ['EACCES', 'open', /Check the permissions/],
  ['EROFS', 'open', /can be written/],
  ['ENOTDIR', 'open', /A part of the path is a file/],
  ['EEXIST', 'mkdir', /A part of the path is a file/],
])('a failure of the file system names its remedy: %s', (code, syscall, message) => {
  const error = Object.assign(new Error(`${code}: it failed, ${syscall}`), { code, syscall })
  expect(describeError(error)).toMatch(message)
})
