import { z } from 'zod'
import { type Config, ConfigError, loadConfig } from '../../infra/config.ts'
import { kafkaSettings } from '../../infra/kafka-settings.ts'
import type { KafkaOptions } from '../../infra/stream/kafka-connection.ts'
import type { LimiterCalls } from './limiter.ts'
import type { MailboxCalls } from './mailbox.ts'
import type { ObjectNamespace } from './objects.ts'
import type { ProducerCalls } from './producer-pool.ts'

/** Bindings of `wrangler.toml`: Durable Objects, and variables and secrets as text. */
export interface WorkerEnv {
  PRODUCER: ObjectNamespace<ProducerCalls>
  MAILBOX: ObjectNamespace<MailboxCalls>
  LIMITER: ObjectNamespace<LimiterCalls>
  [variable: string]: unknown
}

/** Validated settings of an edge on Workers. */
export interface WorkerConfig extends Config {
  kafka: Pick<KafkaOptions, 'brokers' | 'clientId' | 'tls' | 'sasl'>
  replySecret: string
  /** Of settings that are misspelt or have no effect. */
  warnings: string[]
  /** Number of Durable Objects that send to Kafka. */
  producers: number
  /** Number of Durable Objects that requests wait in. */
  mailboxes: number
}

const poolSizeSchema = z.coerce.number().int().min(1).max(256).default(4)

/**
 * Reads the settings from the same variables as elsewhere, except for files, such as `KAFKA_CA`.
 * @throws ConfigError
 */
export function workerConfig(env: WorkerEnv): WorkerConfig {
  const variables = Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
  const { config, warnings } = loadConfig({ env: variables })
  const kafka = kafkaSettings(config)
  if (!kafka) throw missing('KAFKA_BROKERS', 'an edge on Workers has no embedded stream')
  if (config.kafkaCa !== undefined)
    throw new ConfigError(
      'KAFKA_CA is not supported on Workers, which trust public certificate authorities only. Remove it.',
    )
  if (config.replySecret === undefined)
    throw missing('TURBINE_REPLY_SECRET', 'processors sign their replies with it')
  return {
    ...config,
    warnings,
    kafka,
    replySecret: config.replySecret,
    producers: poolSize('PRODUCERS', variables),
    mailboxes: poolSize('MAILBOXES', variables),
  }
}

function poolSize(variable: string, variables: Record<string, string>): number {
  const size = poolSizeSchema.safeParse(variables[variable])
  if (size.success) return size.data
  throw new ConfigError(`${variable} is "${variables[variable]}"; allowed: an integer from 1 to 256.`)
}

const missing = (variable: string, reason: string) =>
  new ConfigError(
    `${variable} is not set: ${reason}. Set it in wrangler.toml, or with "wrangler secret put ${variable}".`,
  )
