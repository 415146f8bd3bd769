import { webDecoders } from '../../infra/compression/web-decoders.ts'
import { createImageSource } from '../../infra/fetch/image-source.ts'
import { webSettings } from '../../infra/fetch/web-settings.ts'
import { createReadiness, withoutReasons } from '../../infra/readiness.ts'
import { openS3, uploadBytes } from '../../infra/store/s3.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { createAccounts } from '../accounts/accounts.ts'
import { createDownloads } from '../api/files/download.ts'
import { maxBodyBytes } from '../contract/caption.ts'
import { imageLimitsOf } from '../contract/image.ts'
import { replyPath } from '../contract/reply.ts'
import type { EdgeDeps } from '../deps.ts'
import { idleIgnores, readingOf } from '../fleet/reading.ts'
import { createServedModels } from '../fleet/served-models.ts'
import { hasPlace } from '../guard/admission.ts'
import { createBodyMemory } from '../guard/body-memory.ts'
import { createConsoleLog } from './console-log.ts'
import { type WorkerEnv, workerConfig } from './env.ts'
import { createObjectLimiter } from './limiter.ts'
import { createObjectMailbox } from './mailbox.ts'
import type { Background } from './objects.ts'
import { createProducerPool } from './producer-pool.ts'
import { requestLog } from './request-log.ts'

export interface WorkerPlatform {
  /** Scheme and host of the current request. */
  origin(): string
  background: Background
}

/** Parts of uploads, bytes: S3's minimum. */
const partBytes = 5 * 1024 * 1024
/** Of the 128 MB of an isolate, for request bodies and uploads, bytes. */
const bodyBytes = 48 * 1024 * 1024

/**
 * Dependencies of the edge from a Worker's bindings.
 * @throws ConfigError
 */
export function workerDeps(env: WorkerEnv, { origin, background }: WorkerPlatform): EdgeDeps {
  const config = workerConfig(env)
  const now = Date.now
  const newId = () => crypto.randomUUID()
  const log = createConsoleLog({ level: config.logLevel })
  for (const told of [...config.warnings, ...idleIgnores(config.ignoreParameters)]) log.warn({}, told)
  const s3 = openS3({
    endpoint: config.s3Endpoint,
    region: config.s3Region,
    accessKeyId: config.s3AccessKeyId,
    secretAccessKey: config.s3SecretAccessKey,
    // Uploads share the memory of an isolate; objects can still have 50 GB.
    partBytes,
  })
  const store = s3.own(config.s3Bucket)
  const stream = createProducerPool({
    objects: env.PRODUCER,
    producers: config.producers,
    background,
    newId,
  })
  const { models, ownTopics } = createServedModels({ store, now, log })
  return {
    stream,
    store,
    buckets: s3.bucket,
    ownBucket: config.s3Bucket,
    downloads: createDownloads({ store: s3.downloads(config.s3Bucket), buckets: s3.downloads }, config),
    accounts: createAccounts({ store, now }),
    limiter: createObjectLimiter({ objects: env.LIMITER, background }),
    bodies: {
      // A request cannot wait for the end of another one.
      memory: createBodyMemory({ bytes: bodyBytes, waitMs: 0 }),
      minRate: config.minBodyRate,
      streamBytes: uploadBytes(partBytes),
      decoders: webDecoders,
    },
    mailbox: createObjectMailbox({
      objects: env.MAILBOX,
      mailboxes: config.mailboxes,
      addressOf: (id) => `${config.publicUrl?.replace(/\/$/, '') ?? origin()}${replyPath(id)}`,
      background,
      log,
    }),
    replySecret: config.replySecret,
    models,
    ownTopics,
    reading: readingOf(config),
    // The length of the processors' queue is not known here; this bounds the memory of the isolate.
    roomIn: (taken, { held: own }) => (hasPlace({ limit: config.queueLimit, taken, own }) ? 0 : 1),
    readiness: withoutReasons(
      createReadiness(
        {
          store: () => store.head('ready'),
          stream: stream.assertReachable,
          models: async () => {
            if ((await models()).length === 0) throw new Error('No processor has announced a model yet.')
          },
        },
        // No sharing: a request cannot wait for the I/O of another one.
        { keepMs: 0 },
      ),
      log,
    ),
    metrics: requestLog(log),
    imageLimits: imageLimitsOf(config),
    images: createImageSource({
      fetch: (url, init) => fetch(url, init),
      maxBytes: maxBodyBytes,
      ...webSettings(config, packageJson.version),
      buckets: s3.bucket,
      decoders: webDecoders,
    }),
    now,
    newId,
    log,
    sloMs: config.sloMs,
    version: packageJson.version,
  }
}
