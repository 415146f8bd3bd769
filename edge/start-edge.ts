import { randomUUID } from 'node:crypto'
import type { Backends } from '../infra/backends.ts'
import { nodeDecoders } from '../infra/compression/node-decoders.ts'
import type { Config } from '../infra/config.ts'
import type { Images } from '../infra/fetch/configured.ts'
import { FetchPlaces, inPlaces } from '../infra/fetch/fetch-places.ts'
import { workingMemory } from '../infra/memory.ts'
import { withoutReasons } from '../infra/readiness.ts'
import type { Shutdown } from '../infra/shutdown.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import type { Metrics } from '../infra/telemetry/metrics.ts'
import { assertExposable, createAccounts } from './accounts/accounts.ts'
import { isLoopbackHost } from './accounts/loopback.ts'
import { createDownloads } from './api/files/download.ts'
import { createApp } from './app.ts'
import { imageLimitsOf } from './contract/image.ts'
import type { EdgeDeps } from './deps.ts'
import { idleIgnores, readingOf } from './fleet/reading.ts'
import { createBodyMemory } from './guard/body-memory.ts'
import { createLimiter } from './guard/limits.ts'
import { createEdgeMetrics } from './metrics.ts'
import { operationsApp } from './operations.ts'
import { type FetchApp, serveNode } from './server.ts'
import type { LocalMailbox } from './submit/mailbox.ts'

export interface NodeEdgeOptions
  extends Pick<EdgeDeps, 'models' | 'ownTopics' | 'roomIn' | 'rejection' | 'withdraw' | 'readiness'> {
  config: Config
  log: Logger
  version: string
  backends: Backends
  metrics: Metrics
  mailbox: LocalMailbox
  /** Closed by whoever opened it. */
  images: Pick<Images, 'imageAt'>
}

/** Addresses of an edge. */
export interface EdgeAddresses {
  url: string
  /** Where processors reply, and operators look. */
  operations: string
}
/** Share of the working memory; the rest is for images that wait in a processor. */
const bodyShare = 2 / 3

/**
 * Serves the edge on Node, with its operations on a port of their own if the settings name one.
 * @throws ListenError, and what `assertExposable` throws if API keys are missing
 */
export async function startEdge(options: NodeEdgeOptions, shutdown: Shutdown): Promise<EdgeAddresses> {
  const { config, backends, mailbox, images } = options
  const accounts = createAccounts({ store: backends.store, now: Date.now })
  await assertExposable(config.host, accounts)
  for (const told of idleIgnores(config.ignoreParameters)) options.log.warn({}, told)
  const { host, port, operationsPort, replySecret, maxConnections, proxies } = config
  const deps = {
    ...{ ...options, ...backends, accounts, replySecret, sloMs: config.sloMs },
    limiter: createLimiter({ now: Date.now }),
    bodies: {
      memory: createBodyMemory({ bytes: bodyShare * workingMemory(config.memoryMb) }),
      minRate: config.minBodyRate,
      streamBytes: backends.putBytes,
      decoders: nodeDecoders,
    },
    metrics: createEdgeMetrics(options.metrics),
    imageLimits: imageLimitsOf(config),
    images: inPlaces(images.imageAt, {
      places: new FetchPlaces(config.hostConcurrency),
      waitMs: config.imageTimeoutMs,
    }),
    reading: readingOf(config),
    now: Date.now,
    newId: randomUUID,
    downloads: createDownloads(backends.downloads, config),
  }
  const readiness = isLoopbackHost(host) ? options.readiness : withoutReasons(options.readiness, options.log)
  const app = createApp({ ...deps, readiness, operationsApart: operationsPort !== undefined })
  const serve = async (app: FetchApp, port: number) => {
    const limits = { maxConnections, proxies, unreadMs: config.downloadStallMs }
    const server = await serveNode(app, { host, port, ...limits, releaseWaiting: mailbox.release })
    shutdown.add((drainMs) => server.close(drainMs))
    return server.address
  }
  const operations =
    operationsPort === undefined ? undefined : await serve(operationsApp(deps), operationsPort)
  const url = await serve(app, port)
  return { url, operations: operations ?? url }
}
