import { randomUUID } from 'node:crypto'
import type { Backends } from '../infra/backends.ts'
import type { Config } from '../infra/config.ts'
import { openImageSource } from '../infra/fetch/node.ts'
import { workingMemory } from '../infra/memory.ts'
import type { Shutdown } from '../infra/shutdown.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import type { Metrics } from '../infra/telemetry/metrics.ts'
import { assertExposable, createAccounts } from './accounts/accounts.ts'
import { createApp } from './app.ts'
import { maxBodyBytes } from './contract/caption.ts'
import type { EdgeDeps } from './deps.ts'
import { createBodyMemory } from './guard/body-memory.ts'
import { createLimiter } from './guard/limits.ts'
import { createEdgeMetrics } from './metrics.ts'
import { serveNode } from './server.ts'
import type { LocalMailbox } from './submit/mailbox.ts'

export interface NodeEdgeOptions extends Pick<EdgeDeps, 'models' | 'roomIn' | 'rejection' | 'readiness'> {
  config: Config
  log: Logger
  version: string
  backends: Backends
  metrics: Metrics
  mailbox: LocalMailbox
}

/** Share of the working memory; the rest is for images that wait. */
const bodyShare = 2 / 3

/**
 * Serves the edge on Node.
 * @returns its address
 * @throws ListenError, and what `assertExposable` throws if API keys are missing
 */
export async function startEdge(options: NodeEdgeOptions, shutdown: Shutdown): Promise<string> {
  const { config, backends, mailbox } = options
  const accounts = createAccounts({ store: backends.store, now: Date.now })
  await assertExposable(config.host, accounts)
  const images = openImageSource({
    maxBytes: maxBodyBytes,
    timeoutMs: config.imageTimeoutMs,
    allowPrivate: config.allowPrivateUrls,
    buckets: backends.buckets,
  })
  shutdown.add(() => images.close())
  const app = createApp({
    ...options,
    ...backends,
    accounts,
    limiter: createLimiter({ now: Date.now }),
    bodies: {
      memory: createBodyMemory({ bytes: bodyShare * workingMemory(config.memoryMb) }),
      minRate: config.minBodyRate,
      streamBytes: backends.putBytes,
    },
    replySecret: config.replySecret,
    metrics: createEdgeMetrics(options.metrics),
    images: images.imageAt,
    now: Date.now,
    newId: randomUUID,
    sloMs: config.sloMs,
  })
  const { host, port, maxConnections, proxies } = config
  const limits = { maxConnections, proxies }
  const server = await serveNode(app, { host, port, ...limits, releaseWaiting: mailbox.release })
  shutdown.add((drainMs) => server.close(drainMs))
  return server.address
}
