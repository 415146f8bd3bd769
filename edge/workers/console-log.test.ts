import { expect, test } from 'vitest'
import { createConsoleLog } from './console-log.ts'
import { requestLog } from './request-log.ts'

function lines(level?: string) {
  const written: Record<string, unknown>[] = []
  const log = createConsoleLog({ level, write: (line) => void written.push(JSON.parse(line)) })
  return { log, written }
}

test('a line has its level, its time, its fields and its message', () => {
  const { log, written } = lines()
  log.warn({ err: new Error('lost', { cause: new Error('reset') }), id: 'a' }, 'a mailbox was lost')
  expect(written).toEqual([
    expect.objectContaining({ level: 'warn', id: 'a', msg: 'a mailbox was lost', time: expect.any(String) }),
  ])
  expect(written[0]!.err).toMatchObject({ message: 'lost', cause: { message: 'reset' } })
})

test('secrets are not written', () => {
  const { log, written } = lines()
  log.error({ password: 'x', url: 'https://a.com/?signature=1' }, 'failed')
  expect(JSON.stringify(written)).not.toMatch(/"x"|signature=1/)
})

test('lines below the level are not written', () => {
  const { log, written } = lines('warn')
  log.debug({}, 'no')
  log.info({}, 'no')
  log.warn({}, 'yes')
  log.error({}, 'yes')
  expect(written.map(({ msg }) => msg)).toEqual(['yes', 'yes'])
})

test('a request is a line, and there is nothing for Prometheus', async () => {
  const { log, written } = lines()
  const metrics = requestLog(log)
  metrics.observe({ method: 'GET', route: '/v1/models', status: 200, seconds: 0.004 })
  expect(written[0]).toMatchObject({ msg: 'request', route: '/v1/models', status: 200, seconds: 0.004 })
  await expect(metrics.render()).rejects.toMatchObject({ status: 404, code: 'metrics_elsewhere' })
})
