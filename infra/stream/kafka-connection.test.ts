import { expect, test, vi } from 'vitest'
import { explainFailure, isRefusal, kafkaConfig, protocolErrorType } from './kafka-connection.ts'

const brokers = ['kafka-1:9092', 'kafka-2:9092']

function nested(innermost: Error): Error {
  return new Error('retries exceeded', { cause: new Error('connection failed', { cause: innermost }) })
}

const named = (name: string, message: string, fields: object = {}) => {
  return Object.assign(new Error(message), { name, ...fields })
}

test('an explanation is about the innermost cause', () => {
  const refused = nested(named('Error', 'connect ECONNREFUSED'))
  expect(explainFailure(refused, { brokers })).toMatch(
    /cannot be reached at kafka-1:9092,kafka-2:9092 \(connect ECONNREFUSED\).*KAFKA_BROKERS/,
  )
  expect(isRefusal(refused)).toBe(false)
})

test('refused credentials and certificates are told apart, and are not tried again', () => {
  const credentials = nested(named('KafkaJSSASLAuthenticationError', 'Authentication failed'))
  expect(explainFailure(credentials, { brokers })).toMatch(/credentials.*KAFKA_PASSWORD/)
  const certificate = nested(named('Error', 'self-signed certificate in certificate chain'))
  expect(explainFailure(certificate, { brokers })).toMatch(/certificate.*KAFKA_CA/)
  expect([credentials, certificate].map(isRefusal)).toEqual([true, true])
})

test("finds Kafka's own name of an error", () => {
  const error = nested(named('KafkaJSProtocolError', 'too large', { type: 'MESSAGE_TOO_LARGE' }))
  expect(protocolErrorType(error)).toBe('MESSAGE_TOO_LARGE')
  expect(protocolErrorType(new Error('other'))).toBeUndefined()
})

test('TLS trusts the given authority, or the usual ones', () => {
  expect(kafkaConfig({ brokers }).ssl).toBe(false)
  expect(kafkaConfig({ brokers, tls: true }).ssl).toBe(true)
  expect(kafkaConfig({ brokers, tls: true, ca: 'PEM' }).ssl).toEqual({ ca: ['PEM'] })
})

test('logs what is news as a warning, and everyday life as debug', () => {
  const onLog = vi.fn()
  const { logCreator } = kafkaConfig({ brokers, onLog })
  const log = logCreator!(2)
  const write = (message: string, fields: object = {}) => {
    log({ namespace: 'Consumer', level: 1, label: 'ERROR', log: { message, timestamp: 't', ...fields } })
  }
  write('Crash: no coordinator', { groupId: 'workers' })
  write('Response Heartbeat', { error: 'The group is rebalancing' })
  expect(onLog.mock.calls).toEqual([
    ['warn', 'Crash: no coordinator', { namespace: 'Consumer', groupId: 'workers' }],
    ['debug', 'Response Heartbeat', { namespace: 'Consumer', error: 'The group is rebalancing' }],
  ])
})
