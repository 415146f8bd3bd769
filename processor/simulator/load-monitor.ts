import type { BatchBacklog } from '../../edge/contract/backlog.ts'
import { desiredReplicas } from '../scheduling/desired-replicas.ts'

/** Fleet as seen from outside. */
export interface FleetSample {
  /** Requests so far. */
  taken: number
  /** Unfinished requests. */
  lag: number
  batches: readonly BatchBacklog[]
  /** Images per second that a replica serves unpruned; undefined while unknown. */
  throughput: number | undefined
}

/** The rate of arrivals is taken over this long, ms, as processors do. */
const rateMs = 30_000

/** Tracks the load of the fleet and computes the replicas that it needs at full quality. */
export class LoadMonitor {
  #samples: { at: number; taken: number }[] = []
  #throughput: number | undefined

  sample({ taken, throughput }: FleetSample, now: number): void {
    this.#samples = [...this.#samples.filter(({ at }) => now - at <= rateMs), { at: now, taken }]
    // The last known throughput, while no processor runs.
    this.#throughput = throughput ?? this.#throughput
  }

  /** Replicas as a fraction; undefined while that is not known. */
  desired({ lag, batches }: FleetSample, now: number): number | undefined {
    if (this.#throughput === undefined) return undefined
    const load = {
      arrivalRate: this.#arrivalRate(),
      waiting: lag,
      batches: batches.map(({ deadline, linesLeft }) => ({ deadline, images: linesLeft })),
    }
    const { interactive, batch } = desiredReplicas(load, { throughput: this.#throughput }, now)
    return interactive + batch
  }

  #arrivalRate(): number {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || first.at === last.at) return 0
    return (1000 * (last.taken - first.taken)) / (last.at - first.at)
  }
}
