import { randomUUID } from 'node:crypto'
import type { Backends } from '../infra/backends.ts'
import type { Config } from '../infra/config.ts'
import { FetchPlaces, inPlaces } from '../infra/fetch/fetch-places.ts'
import { HostBreaker } from '../infra/fetch/host-breaker.ts'
import { openImageSource } from '../infra/fetch/node.ts'
import { workingMemory } from '../infra/memory.ts'
import { withoutReasons } from '../infra/readiness.ts'
import type { Shutdown } from '../infra/shutdown.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import type { Metrics } from '../infra/telemetry/metrics.ts'
import { assertExposable, createAccounts } from './accounts/accounts.ts'
import { isLoopbackHost } from './accounts/loopback.ts'
import { createDownloads } from './api/files/download.ts'
import { createApp } from './app.ts'
import { maxBodyBytes } from './contract/caption.ts'
import { imageLimitsOf } from './contract/image.ts'
import type { EdgeDeps } from './deps.ts'
import { createBodyMemory } from './guard/body-memory.ts'
import { createLimiter } from './guard/limits.ts'
import { createEdgeMetrics } from './metrics.ts'
import { operationsApp } from './operations.ts'
import { type FetchApp, serveNode } from './server.ts'
import type { LocalMailbox } from './submit/mailbox.ts'

/** Images that are fetched at a time for one tenant from one host. */
const fetchesPerHost = 32
export interface NodeEdgeOptions extends Pick<EdgeDeps, 'models' | 'roomIn' | 'rejection' | 'readiness'> {
  config: Config
  log: Logger
  version: string
  backends: Backends
  metrics: Metrics
  mailbox: LocalMailbox
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
  const { config, backends, mailbox } = options
  const accounts = createAccounts({ store: backends.store, now: Date.now })
  await assertExposable(config.host, accounts)
  const images = openImageSource({
    maxBytes: maxBodyBytes,
    timeoutMs: config.imageTimeoutMs,
    allowPrivate: config.allowPrivateUrls,
    buckets: backends.buckets,
    hosts: new HostBreaker(),
  })
  shutdown.add(() => images.close())
  const { host, port, operationsPort, replySecret, maxConnections, proxies } = config
  const deps = {
    ...{ ...options, ...backends, accounts, replySecret, sloMs: config.sloMs },
    limiter: createLimiter({ now: Date.now }),
    bodies: {
      memory: createBodyMemory({ bytes: bodyShare * workingMemory(config.memoryMb) }),
      minRate: config.minBodyRate,
      streamBytes: backends.putBytes,
    },
    metrics: createEdgeMetrics(options.metrics),
    imageLimits: imageLimitsOf(config),
    images: inPlaces(images.imageAt, {
      places: new FetchPlaces(fetchesPerHost),
      waitMs: config.imageTimeoutMs,
    }),
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
