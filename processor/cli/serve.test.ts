import { expect, test } from 'vitest'
import type { Role } from '../service/roles.ts'
import { runServe, type ServeFlags } from './serve.ts'
import { FakeSignals } from './signals.fixture.ts'

test('a signal closes the service, and the command is over when it is closed', async () => {
  const signals = new FakeSignals()
  const events: string[] = []
  let printed = ''
  const environment = {
    startService: async (role: Role, { port }: ServeFlags) => {
      events.push(`${role} ${port}`)
      return {
        url: 'http://127.0.0.1:1234',
        warmUp: { caption: 'a red fish', image: '/pictures/it is.jpg' },
        close: async () => {
          events.push('closed')
        },
      }
    },
    signals,
    stdout: {
      // Whoever waits until it is ready may end it at once.
      write: (text: string) => {
        printed += text
        return signals.emit('SIGTERM', 'SIGTERM')
      },
    },
    stderr: { write: () => true },
  }
  await runServe('serve', { port: '0' }, environment)
  expect(events).toEqual(['serve 0', 'closed'])
  expect(printed).toContain('Turbine is ready at http://127.0.0.1:1234')
  expect(printed).toContain('"a red fish"')
  expect(printed).toMatch(/curl --data-binary @'.*it is\.jpg' .*http:\/\/127\.0\.0\.1:1234\/v1\/captions/)
  expect(signals.listenerCount('SIGTERM')).toBe(0)
})
