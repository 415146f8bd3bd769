import { loadConfig } from '../../../infra/config.ts'
import type { GraphOptions } from '../../../processor/models/model.ts'

/** Precisions of Turbine on a CPU. */
export type TurbinePrecision = 'float32' | 'int8'

/** Whether the engine computes in it. */
export function knowsPrecision(precision: TurbinePrecision): boolean {
  try {
    loadConfig({ env: { TURBINE_PRECISION: precision } })
    return true
  } catch {
    return false
  }
}

/** Options of a graph that computes in it. */
export const graphOf = (precision: TurbinePrecision): GraphOptions =>
  precision === 'int8' ? ({ int8: true } as GraphOptions) : {}
