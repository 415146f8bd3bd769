import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { type Lane, lanes } from '../scheduling/lane.ts'
import type { FleetLoad } from './load.ts'

/** Metrics of the whole fleet; all processes that watch it tell the same. What is not known now is left out. */
export function measureFleet(metrics: Metrics, fleet: FleetLoad): void {
  const perLane = (name: string, help: string, read: (lane: Lane) => number | undefined) =>
    metrics.gauge({
      name,
      help,
      labelNames: ['lane'],
      collect() {
        this.reset()
        for (const lane of lanes) {
          const value = read(lane)
          if (value !== undefined) this.set({ lane }, value)
        }
      },
    })
  perLane(
    'desired_replicas',
    'Processors that the load of the whole fleet needs at full quality, as a fraction. Take the maximum over all processes.',
    (lane) => fleet.desired()?.[lane],
  )
  perLane('replicas', 'Processors that share the lane.', (lane) => fleet.replicas(lane))
  perLane('stream_lag', 'Records of the lane that are not finished.', (lane) => fleet.lag(lane))
}
