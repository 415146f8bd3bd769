import { expect, test } from 'vitest'
import { ConfigError } from '../../infra/config.ts'
import { type WorkerEnv, workerConfig } from './env.ts'

const env = (variables: Record<string, string>) =>
  ({
    PRODUCER: {},
    KAFKA_BROKERS: 'a.example.com:9093, b.example.com:9093',
    TURBINE_REPLY_SECRET: 'a secret of the fleet',
    ...variables,
  }) as unknown as WorkerEnv

test('variables are those of the service, bindings are passed over', () => {
  expect(workerConfig(env({ KAFKA_TLS: 'on', TURBINE_SLO_MS: '300' }))).toMatchObject({
    kafka: { brokers: ['a.example.com:9093', 'b.example.com:9093'], tls: true },
    replySecret: 'a secret of the fleet',
    sloMs: 300,
    producers: 4,
    mailboxes: 4,
  })
})

test('credentials for Kafka are taken when they are asked for', () => {
  const sasl = { KAFKA_SASL: 'scram-sha-512', KAFKA_USERNAME: 'turbine', KAFKA_PASSWORD: 'secret' }
  expect(workerConfig(env(sasl)).kafka.sasl).toEqual({
    mechanism: 'scram-sha-512',
    username: 'turbine',
    password: 'secret',
  })
})

test.each<[Record<string, string>, string]>([
  [{ KAFKA_BROKERS: '' }, 'KAFKA_BROKERS is not set'],
  [{ TURBINE_REPLY_SECRET: '' }, 'TURBINE_REPLY_SECRET is not set'],
  [{ KAFKA_CA: 'ca.pem' }, 'KAFKA_CA is not supported on Workers'],
  [{ KAFKA_SASL: 'plain' }, 'set KAFKA_USERNAME and KAFKA_PASSWORD'],
  [{ PRODUCERS: '0' }, 'PRODUCERS is "0"'],
  [{ MAILBOXES: 'many' }, 'MAILBOXES is "many"'],
  [{ TURBINE_SLO_MS: 'soon' }, 'TURBINE_SLO_MS'],
])('%j is refused by name', (variables, message) => {
  expect(() => workerConfig(env(variables))).toThrow(ConfigError)
  expect(() => workerConfig(env(variables))).toThrow(message)
})

test('a variable that is misspelt is a warning', () => {
  const { warnings } = workerConfig(env({ TURBINE_MODEL_ALIAS: 'a=b' }))
  expect(warnings).toEqual([expect.stringContaining('Did you mean TURBINE_MODEL_ALIASES?')])
})
