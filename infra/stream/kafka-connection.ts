import { type ISocketFactory, Kafka, type KafkaConfig, logLevel, type SASLOptions } from 'kafkajs'
import './kafka-idle.ts'
import { openSocket, wholeResponses } from './kafka-socket.ts'
import { StreamOpenError, UnknownTopicError } from './stream.ts'

/** Connection settings of Kafka, on Node and on Workers. */
export interface KafkaOptions {
  /** Bootstrap brokers, `host:port`. */
  brokers: string[]
  /** Name of this process in the brokers' logs. */
  clientId?: string
  tls?: boolean
  /** Certificate of the authority to trust, PEM. Workers ignore it: they trust public authorities only. */
  ca?: string
  sasl?: { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string }
  /** Opens connections, e.g. through a tunnel. */
  socketFactory?: ISocketFactory
  /** Receives the client's log; `debug` is for routine such as rebalances. */
  onLog?(level: 'debug' | 'warn', message: string, fields: Record<string, unknown>): void
}

/** Pauses of 0.1 to 2 s between attempts; nine attempts take about 10 s where connections fail at once. */
export const connectRetry = {
  initialRetryTime: 100,
  maxRetryTime: 2_000,
  factor: 0.2,
  multiplier: 2,
  retries: 8,
}

export function createKafka(options: KafkaOptions): Kafka {
  return new Kafka(kafkaConfig(options))
}

/** Translates the options for kafkajs. */
export function kafkaConfig({
  brokers,
  clientId = 'turbine',
  tls = false,
  ca,
  sasl,
  socketFactory = openSocket,
  onLog = () => {},
}: KafkaOptions): KafkaConfig {
  return {
    brokers,
    clientId,
    ssl: tls && ca !== undefined ? { ca: [ca] } : tls,
    // A union of one type for each mechanism there; all three are alike.
    sasl: sasl as SASLOptions | undefined,
    socketFactory: wholeResponses(socketFactory),
    connectionTimeout: 5_000,
    authenticationTimeout: 10_000,
    requestTimeout: 10_000,
    retry: connectRetry,
    logLevel: logLevel.WARN,
    logCreator: () => {
      return ({ namespace, log }) => {
        const { message, timestamp: _time, logger: _library, ...fields } = log
        onLog(isRoutine(message, fields) ? 'debug' : 'warn', message, { namespace, ...fields })
      }
    },
  }
}

/**
 * Recognises warnings and errors of kafkajs that are routine: rebalances, a starting coordinator, and every attempt to
 * connect in an outage, which sends and consumers report themselves.
 */
function isRoutine(message: string, fields: Record<string, unknown>): boolean {
  const text = `${message} ${fields.error ?? ''}`
  // A producer with too few retries to be safe after a failed send is never used after one.
  return /^(Limiting retries|Connection error|Failed to connect to seed broker)|rebalanc|is loading/i.test(
    text,
  )
}

/** Explains in one line why Kafka cannot be used, and what to do. */
export function explainFailure(error: unknown, { brokers }: Pick<KafkaOptions, 'brokers'>): string {
  const { message } = rootCause(error)
  if (refusesCredentials(error))
    return `Kafka rejected the credentials (${message}). Check KAFKA_SASL, KAFKA_USERNAME and KAFKA_PASSWORD.`
  if (distrustsCertificate(error))
    return `The certificate of Kafka at ${brokers} is not trusted (${message}). Set KAFKA_CA to its authority's.`
  return `Kafka cannot be reached at ${brokers} (${message}). Check KAFKA_BROKERS and KAFKA_TLS, and that it runs.`
}

/** Recognises errors that last until the settings change. */
export function isRefusal(error: unknown): boolean {
  return refusesCredentials(error) || distrustsCertificate(error)
}

function refusesCredentials(error: unknown): boolean {
  return rootCause(error).name === 'KafkaJSSASLAuthenticationError'
}

function distrustsCertificate(error: unknown): boolean {
  const { code, message } = rootCause(error)
  return /certificate|altname/i.test(`${code} ${message}`)
}

export function unknownTopic(topic: string, cause?: unknown): UnknownTopicError {
  return new UnknownTopicError(`Kafka has no topic "${topic}". Create it: npx turbine topics create.`, {
    cause,
  })
}

/** Kafka's error type, e.g. `MESSAGE_TOO_LARGE`; undefined for other errors. */
export function protocolErrorType(error: unknown): string | undefined {
  const { type } = rootCause(error)
  return typeof type === 'string' ? type : undefined
}

/** @throws StreamOpenError in place of whatever the work rejects with. */
export async function orOpenError<T>(options: KafkaOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new StreamOpenError(explainFailure(cause, options), { cause })
  }
}

/** kafkajs wraps errors in errors; the innermost one says what happened. */
function rootCause(error: unknown): Error & { code?: unknown; type?: unknown } {
  const outer = error instanceof Error ? error : new Error(String(error))
  return outer.cause instanceof Error ? rootCause(outer.cause) : outer
}
