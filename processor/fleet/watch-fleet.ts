import type { Backends } from '../../infra/backends.ts'
import type { Shutdown } from '../../infra/shutdown.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { createPaces } from './batch-progress.ts'
import { measureFleet } from './fleet-metrics.ts'
import { FleetLoad, type FleetLoadOptions } from './load.ts'

export interface WatchFleetOptions extends Pick<FleetLoadOptions, 'throughput'> {
  backends: Backends
  log: Logger
  metrics: Metrics
  shutdown: Shutdown
}

/** Watches the load of the fleet from this process until it shuts down, and tells of it in its metrics. */
export function watchFleet({ backends, log, metrics, shutdown, throughput }: WatchFleetOptions): FleetLoad {
  const { stream, store } = backends
  const paces = createPaces({ store, log, now: Date.now })
  const fleet = new FleetLoad({
    stream,
    batches: () => paces.batches(),
    throughput,
    log,
    now: Date.now,
  })
  measureFleet(metrics, fleet)
  shutdown.add(() => Promise.all([paces.close(), fleet.close()]))
  return fleet
}
