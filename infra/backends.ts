import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Config, ConfigError } from './config.ts'
import { kafkaSettings } from './kafka-settings.ts'
import { openDirectoryStore } from './store/directory.ts'
import type { SliceStores } from './store/slices.ts'
import type { Buckets, ObjectStore } from './store/store.ts'
import type { KafkaOptions } from './stream/kafka-connection.ts'
import { openSqliteStream } from './stream/sqlite.ts'
import type { Stream } from './stream/stream.ts'
import type { Logger } from './telemetry/log.ts'

/** Stream and store that hold the service's state. */
export interface Backends {
  stream: Stream
  store: ObjectStore
  /** Other buckets, for `s3://` addresses; absent where no S3 is configured. */
  buckets?: Buckets
  /** Name of the store's bucket; no `s3://` address may name it. */
  ownBucket?: string
  /** The same, for what callers download, over connections of their own. */
  downloads: SliceStores
  /** Memory that the put of a stream takes at most, bytes. */
  putBytes: number
  /** Frees both; streams and stores close after everything that uses them. */
  close(): Promise<void>
}

type Log = Pick<Logger, 'debug' | 'warn'>

/** A file is written chunk by chunk. */
const fileBytes = 512 * 1024

/**
 * Opens the stream and the store that the settings name: Kafka and S3 for a fleet, SQLite and a folder for one
 * machine.
 * @throws ConfigError, StreamOpenError, StoreUnavailableError
 */
export async function openBackends(config: Config, log: Log): Promise<Backends> {
  // The stream first: the lock of the embedded one keeps a second process out of the whole folder.
  const stream = await openStream(config, log)
  try {
    const stores = await openStores(config)
    return {
      ...stores,
      stream,
      close: async () => {
        await stream.close()
        await stores.close()
      },
    }
  } catch (error) {
    await stream.close()
    throw error
  }
}

export async function openStream(config: Config, log: Log): Promise<Stream> {
  const kafka = await kafkaOptions(config, log)
  if (!kafka) return openSqliteStream({ path: join(config.dataDir, 'stream.db') })
  // Loaded on demand: clients of servers cost a single machine time and memory at start.
  const { openKafkaStream } = await import('./stream/kafka.ts')
  return openKafkaStream(kafka)
}

/**
 * The service's own store, and with S3 any other bucket.
 * @param options.guest the service itself may run beside: see `openDirectoryStore`
 */
export async function openStores(
  config: Config,
  options?: { guest?: boolean },
): Promise<Omit<Backends, 'stream'>> {
  const { s3Endpoint, s3Bucket, s3Region, s3AccessKeyId, s3SecretAccessKey } = config
  if (s3Endpoint === undefined && config.kafkaBrokers === undefined) {
    const store = await openDirectoryStore(join(config.dataDir, 'store'), options)
    return { store, downloads: { store }, putBytes: fileBytes, close: () => store.close() }
  }
  const { openS3, uploadBytes } = await import('./store/s3.ts')
  const { DirectS3 } = await import('./store/s3-direct.ts')
  const s3 = openS3({
    endpoint: s3Endpoint,
    region: s3Region,
    accessKeyId: s3AccessKeyId,
    secretAccessKey: s3SecretAccessKey,
    downloads: config.maxDownloads,
    direct: (options) => new DirectS3(options),
  })
  return {
    store: s3.own(s3Bucket),
    buckets: s3.bucket,
    ownBucket: s3Bucket,
    downloads: { store: s3.downloads(s3Bucket), buckets: s3.downloads },
    putBytes: uploadBytes(),
    close: async () => s3.close(),
  }
}

/**
 * Connection options of Kafka; undefined without `KAFKA_BROKERS`.
 * @throws ConfigError when settings are missing or the authority's file cannot be read
 */
export async function kafkaOptions(config: Config, log: Log): Promise<KafkaOptions | undefined> {
  const settings = kafkaSettings(config)
  return (
    settings && {
      ...settings,
      ca: config.kafkaCa === undefined ? undefined : await readAuthority(config.kafkaCa),
      onLog: (level, message, fields) =>
        (level === 'debug' ? log.debug : log.warn).call(log, fields ?? {}, message),
    }
  )
}

async function readAuthority(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new ConfigError(`KAFKA_CA names ${file}, which cannot be read. Give the path of a PEM file.`, {
      cause,
    })
  }
}
