import { createImageSource } from '../../infra/fetch/image-source.ts'
import { createReadiness } from '../../infra/readiness.ts'
import { openS3 } from '../../infra/store/s3.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { createAccounts } from '../accounts/accounts.ts'
import { maxBodyBytes } from '../contract/caption.ts'
import { replyPath } from '../contract/reply.ts'
import type { EdgeDeps } from '../deps.ts'
import { createServedModels } from '../fleet/served-models.ts'
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

/**
 * Dependencies of the edge from a Worker's bindings.
 * @throws ConfigError
 */
export function workerDeps(env: WorkerEnv, { origin, background }: WorkerPlatform): EdgeDeps {
  const config = workerConfig(env)
  const now = Date.now
  const newId = () => crypto.randomUUID()
  const log = createConsoleLog({ level: config.logLevel })
  const s3 = openS3({
    endpoint: config.s3Endpoint,
    region: config.s3Region,
    accessKeyId: config.s3AccessKeyId,
    secretAccessKey: config.s3SecretAccessKey,
    // Uploads share the memory of an isolate; objects can still have 50 GB.
    partBytes: 5 * 1024 * 1024,
  })
  const store = s3.bucket(config.s3Bucket)
  const stream = createProducerPool({
    objects: env.PRODUCER,
    producers: config.producers,
    background,
    newId,
  })
  const models = createServedModels({ store, now, log })
  return {
    stream,
    store,
    buckets: s3.bucket,
    accounts: createAccounts({ store, now }),
    limiter: createObjectLimiter({ objects: env.LIMITER, background }),
    mailbox: createObjectMailbox({
      objects: env.MAILBOX,
      mailboxes: config.mailboxes,
      addressOf: (id) => `${config.publicUrl?.replace(/\/$/, '') ?? origin()}${replyPath(id)}`,
      background,
      log,
    }),
    replySecret: config.replySecret,
    models,
    // The length of the processors' queue is not known here; this bounds the memory of the isolate.
    roomIn: (held) => (held < config.queueLimit ? 0 : 1),
    readiness: createReadiness(
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
    metrics: requestLog(log),
    images: createImageSource({
      fetch: (url, init) => fetch(url, init),
      maxBytes: maxBodyBytes,
      timeoutMs: config.imageTimeoutMs,
      allowPrivate: config.allowPrivateUrls,
      buckets: s3.bucket,
    }),
    now,
    newId,
    log,
    sloMs: config.sloMs,
    version: packageJson.version,
  }
}
