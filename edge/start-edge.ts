import { randomUUID } from 'node:crypto'
import type { Backends } from '../infra/backends.ts'
import type { Config } from '../infra/config.ts'
import { FairBudget } from '../infra/fair-budget.ts'
import { FetchPlaces, inPlaces } from '../infra/fetch/fetch-places.ts'
import { HostBreaker } from '../infra/fetch/host-breaker.ts'
import { openImageSource } from '../infra/fetch/node.ts'
import { memoryLimit } from '../infra/memory.ts'
import type { Shutdown } from '../infra/shutdown.ts'
import type { Logger } from '../infra/telemetry/log.ts'
import type { Metrics } from '../infra/telemetry/metrics.ts'
import { assertExposable, createAccounts } from './accounts/accounts.ts'
import { createApp } from './app.ts'
import { maxBodyBytes } from './contract/caption.ts'
import type { EdgeDeps } from './deps.ts'
import { createLimiter } from './guard/limits.ts'
import { createEdgeMetrics } from './metrics.ts'
import { serveNode } from './server.ts'
import type { LocalMailbox } from './submit/mailbox.ts'

/** Images that are fetched at a time for one tenant from one host. */
const fetchesPerHost = 32
/** Maximum share of the process's memory for images being fetched; at least eight of the largest have room. */
const imageShare = 1 / 8
const imageBytes = Math.max(8 * maxBodyBytes, Math.floor(imageShare * memoryLimit()))

export interface NodeEdgeOptions extends Pick<EdgeDeps, 'models' | 'roomIn' | 'rejection' | 'readiness'> {
  config: Config
  log: Logger
  version: string
  backends: Backends
  metrics: Metrics
  mailbox: LocalMailbox
}

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
    hosts: new HostBreaker(),
  })
  shutdown.add(() => images.close())
  const app = createApp({
    ...options,
    ...backends,
    accounts,
    limiter: createLimiter({ now: Date.now }),
    replySecret: config.replySecret,
    metrics: createEdgeMetrics(options.metrics),
    images: inPlaces(images.imageAt, {
      places: new FetchPlaces(fetchesPerHost),
      memory: new FairBudget({ size: imageBytes, perOwner: imageBytes / 2 }),
      waitMs: config.imageTimeoutMs,
    }),
    now: Date.now,
    newId: randomUUID,
    sloMs: config.sloMs,
  })
  const { host, port } = config
  const server = await serveNode(app, { host, port, releaseWaiting: mailbox.release })
  shutdown.add((drainMs) => server.close(drainMs))
  return server.address
}
