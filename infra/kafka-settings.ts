import { type Config, ConfigError } from './config.ts'
import type { KafkaOptions } from './stream/kafka-connection.ts'

/**
 * Connection options of Kafka that need no files; undefined without `KAFKA_BROKERS`.
 * @throws ConfigError when credentials are missing
 */
export function kafkaSettings(
  config: Config,
): Pick<KafkaOptions, 'brokers' | 'clientId' | 'tls' | 'sasl'> | undefined {
  const { kafkaBrokers, kafkaTls, kafkaSasl, kafkaUsername, kafkaPassword } = config
  if (kafkaBrokers === undefined) return undefined
  const common = {
    brokers: kafkaBrokers.split(',').map((broker) => broker.trim()),
    clientId: 'turbine',
    tls: kafkaTls,
  }
  if (kafkaSasl === 'none') return common
  if (kafkaUsername === undefined || kafkaPassword === undefined)
    throw new ConfigError(`KAFKA_SASL is ${kafkaSasl}: set KAFKA_USERNAME and KAFKA_PASSWORD as well.`)
  return { ...common, sasl: { mechanism: kafkaSasl, username: kafkaUsername, password: kafkaPassword } }
}
