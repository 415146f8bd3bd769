import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { createLogger, type LoggerOptions } from './log.ts'

/** A logger and the lines that it wrote. */
function loggerOf(options: LoggerOptions & { isTTY?: boolean }) {
  const lines: string[] = []
  const write = (line: string) => void lines.push(line)
  return { log: createLogger({ ...options, destination: { write, isTTY: options.isTTY } }), lines }
}

test('writes JSON lines where there is no terminal', () => {
  const { log, lines } = loggerOf({})
  log.info({ port: 8787 }, 'listening')
  expect(JSON.parse(lines[0]!)).toEqual({
    level: 'info',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    port: 8787,
    msg: 'listening',
  })
})

test('writes short text on a terminal', () => {
  const { log, lines } = loggerOf({ isTTY: true, format: 'text' })
  log.info({ port: 8787, model: 'a b' }, 'listening')
  const plain = stripVTControlCharacters(lines[0]!)
  expect(plain).toMatch(/^\d\d:\d\d:\d\d info {2}listening port=8787 model="a b"\n$/)
  expect(lines[0]).toContain('\x1b[2m')
})

test('text without a terminal has no colours', () => {
  const { log, lines } = loggerOf({ format: 'text' })
  log.warn('slow')
  expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d warn {2}slow\n$/)
})

test('shows errors and their causes below the message', () => {
  const { log, lines } = loggerOf({ format: 'text' })
  log.error(new Error('cannot write', { cause: new Error('disk full') }))
  expect(lines[0]).toMatch(
    /error cannot write\n {2}Error: cannot write\n(.*\n)*? {2}caused by Error: disk full\n/,
  )
})

test('leaves out what is below the level', () => {
  const { log, lines } = loggerOf({ level: 'warn' })
  log.info('quiet')
  log.warn('loud')
  expect(lines).toHaveLength(1)
})

test('never writes secrets or image data, in fields, children and errors', () => {
  const { log, lines } = loggerOf({})
  const error = Object.assign(new Error('bad data:image/png;base64,SECRET'), { apiKey: 'SECRET' })
  const child = log.child({ tenant: 'a' }).child({ authorization: 'SECRET' })
  child.error({ err: error, image: Buffer.from('SECRET') }, 'failed')
  expect(lines[0]).not.toContain('SECRET')
  expect(lines[0]).not.toContain(JSON.stringify([...Buffer.from('SECRET')]).slice(1, -1))
  const expected = { tenant: 'a', authorization: '[redacted]', image: '[6 bytes]' }
  expect(JSON.parse(lines[0]!)).toMatchObject(expected)
})
