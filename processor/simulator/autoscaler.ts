export interface AutoscalerOptions {
  /** 0 lets an idle fleet scale to 0. */
  min: number
  max: number
  /** Stabilization window for scaling down, ms; default 300,000. */
  scaleDownWindowMs?: number
  /** Share of the replicas that may be removed within a minute; default 0.5. */
  scaleDownShare?: number
  /** Share of the replicas that may be added within 15 s, if more than 4; default 9. */
  scaleUpShare?: number
  /** Idle time before the last replica is removed, with `min` 0, ms; default 300,000. */
  cooldownMs?: number
}

export interface AutoscalerInput {
  /** For each metric, the fleet's value over the target per replica. */
  values: readonly number[]
  /** Current replicas, starting ones included. */
  replicas: number
}

interface Change {
  at: number
  replicas: number
}

/** A metric within this share of its target changes nothing. */
const tolerance = 0.1
const scaleUpReplicas = 4
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
  /** Replicas added; removed when negative. */
  #changes: Change[] = []
  #activeAt = Number.NEGATIVE_INFINITY

  constructor(options: AutoscalerOptions) {
    this.#options = {
      scaleDownWindowMs: 300_000,
      scaleDownShare: 0.5,
      scaleUpShare: 9,
      cooldownMs: 300_000,
      ...options,
    }
  }

  /** Decides on the number of replicas. Call it at every sync; `now` in ms. */
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
    const { min, max } = this.#options
    const each = values.map((value) =>
      Math.abs(1 - value / replicas) <= tolerance ? replicas : Math.ceil(value),
    )
    return Math.min(max, Math.max(1, min, ...each))
  }

  /** Scales down only to the highest recommendation of the stabilization window. */
  #stabilized(recommended: number, replicas: number, now: number): number {
    const { scaleDownWindowMs } = this.#options
    this.#recommendations = [
      ...this.#recommendations.filter(({ at }) => now - at < scaleDownWindowMs),
      { at: now, replicas: recommended },
    ]
    if (recommended >= replicas) return recommended
    return Math.min(replicas, Math.max(...this.#recommendations.map((each) => each.replicas)))
  }

  /** Limits a change by the scaling policies, relative to the replicas at the start of their periods. */
  #limited(wanted: number, replicas: number, now: number): number {
    const { scaleUpShare, scaleDownShare } = this.#options
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
