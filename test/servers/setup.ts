import type { TestProject } from 'vitest/node'
import { canUseGo } from './go-tools.ts'
import { canStartKafka, startKafka } from './kafka.ts'

/** How tests reach the real servers; undefined where there are none, so that suites skip. */
declare module 'vitest' {
  interface ProvidedContext {
    kafka: { brokers: string } | undefined
    /** Whether tests can start brokers of their own, to stop them or to log in to them. */
    kafkaOfOwn: boolean
    s3: { endpoint: string; accessKeyId: string; secretAccessKey: string } | undefined
  }
}

interface Started<T> {
  access: T | undefined
  stop(): Promise<void>
  /** What is missing where nothing could be started. */
  missing?: string
}

const nothing = async () => {}

/**
 * Starts the real servers that the integration tests use, or takes those that KAFKA_BROKERS and S3_ENDPOINT name.
 * Without either it says what is skipped.
 */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const [kafka, s3] = await Promise.all([openKafka(), openS3()])
  if (kafka.access) console.log(`Kafka is ready at ${kafka.access.brokers}.`)
  if (s3.access) console.log(`S3 is ready at ${s3.access.endpoint}.`)
  const tools = canUseGo() ? [] : ['for the chart, the compose file and the alert rules install Go.']
  const missing = [...[kafka, s3].flatMap((server) => server.missing ?? []), ...tools]
  if (missing.length > 0) console.warn(`Integration tests are skipped: ${missing.join(' ')}`)
  provide('kafka', kafka.access)
  provide('kafkaOfOwn', canStartKafka())
  provide('s3', s3.access)
  return async () => {
    await Promise.all([kafka.stop(), s3.stop()])
  }
}

async function openKafka(): Promise<Started<{ brokers: string }>> {
  const brokers = process.env.KAFKA_BROKERS
  if (brokers) return { access: { brokers }, stop: nothing }
  if (!canStartKafka())
    return {
      access: undefined,
      stop: nothing,
      missing: 'for Kafka install Java 17, Maven and OpenSSL, or set KAFKA_BROKERS.',
    }
  console.log('Starting Apache Kafka for the integration tests ...')
  const server = await startKafka()
  return { access: { brokers: server.brokers }, stop: server.dispose }
}

async function openS3(): Promise<
  Started<{ endpoint: string; accessKeyId: string; secretAccessKey: string }>
> {
  const { S3_ENDPOINT: endpoint, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env
  if (endpoint && AWS_ACCESS_KEY_ID && AWS_SECRET_ACCESS_KEY) {
    const access = { endpoint, accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY }
    return { access, stop: nothing }
  }
  const { canStartS3, startS3 } = await import('./s3.ts')
  if (!canStartS3())
    return {
      access: undefined,
      stop: nothing,
      missing: 'for S3 install Go, or set S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
    }
  console.log('Starting an S3 server (versitygw) for the integration tests ...')
  const { accessKeyId, secretAccessKey, endpoint: started, dispose } = await startS3()
  return { access: { endpoint: started, accessKeyId, secretAccessKey }, stop: dispose }
}
