export interface AutoscalerOptions {
  /** Minimum; 0 lets a fleet without work go away. */
  min: number
  /** Maximum. */
  max: number
  /** A metric this share off its target changes nothing; default 0.1, as Kubernetes has it. */
  tolerance?: number
  /** Replicas go only as far as the highest recommendation within this long allows, ms; default 300,000. */
  scaleDownWindowMs?: number
  /** Share of the replicas that may go within a minute; default 0.5. */
  scaleDownShare?: number
  /** Within 15 s this many replicas may be added, or this share of those there were, whichever is more; default 4, 9. */
  scaleUpReplicas?: number
  scaleUpShare?: number
  /** The last replica of a fleet that may go to 0 stays for this long after the last work, ms; default 300,000. */
  cooldownMs?: number
}

export interface AutoscalerInput {
  /** Each metric's value for the whole fleet over its target for one replica: the replicas that it asks for. */
  values: readonly number[]
  /** Replicas that there are, those that still start included. */
  replicas: number
}

interface Change {
  at: number
  replicas: number
}

const scaleUpPeriodMs = 15_000
const scaleDownPeriodMs = 60_000

/**
 * HorizontalPodAutoscaler of Kubernetes with metrics of type `AverageValue`, and KEDA's scaling to and from 0. Defaults are
 * those of the Helm chart. Sources: kubernetes.io, "Horizontal Pod Autoscaling"; `replica_calculator.go`; keda.sh,
 * `cooldownPeriod`.
 * @example new Autoscaler({ min: 1, max: 20 }).decide({ values: [3.2], replicas: 1 }, now) // 4
 */
export class Autoscaler {
  readonly #options: Required<AutoscalerOptions>
  #recommendations: Change[] = []
  /** Replicas added, or with a negative number taken away. */
  #changes: Change[] = []
  #activeAt = Number.NEGATIVE_INFINITY

  constructor(options: AutoscalerOptions) {
    this.#options = {
      tolerance: 0.1,
      scaleDownWindowMs: 300_000,
      scaleDownShare: 0.5,
      scaleUpReplicas: 4,
      scaleUpShare: 9,
      cooldownMs: 300_000,
      ...options,
    }
  }

  /** Replicas to run. Call it at every sync, with time going forward, ms. */
  decide({ values, replicas }: AutoscalerInput, now: number): number {
    const active = values.some((value) => value > 0)
    if (active || this.#activeAt === Number.NEGATIVE_INFINITY) this.#activeAt = now
    const { min, max, cooldownMs } = this.#options
    if (replicas === 0) return active ? Math.min(max, Math.max(1, min)) : min
    if (min === 0 && !active && now - this.#activeAt >= cooldownMs) return 0
    const wanted = this.#stabilized(this.#recommended(values, replicas), replicas, now)
    const desired = this.#limited(wanted, replicas, now)
    if (desired !== replicas) this.#changes.push({ at: now, replicas: desired - replicas })
    return desired
  }

  #recommended(values: readonly number[], replicas: number): number {
    const { min, max, tolerance } = this.#options
    const each = values.map((value) =>
      Math.abs(1 - value / replicas) <= tolerance ? replicas : Math.ceil(value),
    )
    return Math.min(max, Math.max(1, min, ...each))
  }

  /** Scales down only as far as every recommendation of the stabilization window agrees. */
  #stabilized(recommended: number, replicas: number, now: number): number {
    const { scaleDownWindowMs } = this.#options
    this.#recommendations = [
      ...this.#recommendations.filter(({ at }) => now - at < scaleDownWindowMs),
      { at: now, replicas: recommended },
    ]
    if (recommended >= replicas) return recommended
    return Math.min(replicas, Math.max(...this.#recommendations.map((each) => each.replicas)))
  }

  /** Limits a change to what the policies allow, counted from the replicas at the start of their periods. */
  #limited(wanted: number, replicas: number, now: number): number {
    const { scaleUpReplicas, scaleUpShare, scaleDownShare } = this.#options
    this.#changes = this.#changes.filter(({ at }) => now - at < scaleDownPeriodMs)
    const changed = (sign: number, periodMs: number) =>
      this.#changes
        .filter((change) => now - change.at < periodMs && change.replicas * sign > 0)
        .reduce((sum, change) => sum + change.replicas, 0)
    if (wanted > replicas) {
      const before = replicas - changed(1, scaleUpPeriodMs)
      const most = Math.max(before + scaleUpReplicas, Math.ceil(before * (1 + scaleUpShare)))
      return Math.min(wanted, Math.max(replicas, most))
    }
    const before = replicas - changed(-1, scaleDownPeriodMs)
    return Math.max(wanted, Math.min(replicas, Math.floor(before * (1 - scaleDownShare))))
  }
}
