import { splitCores } from '../../infra/cores.ts'
import type { SessionOptions } from '../onnx/session.ts'
import type { DeviceTarget } from './device-target.ts'

/** Threads per operator: all cores on a CPU, one for a GPU. */
function defaultIntraOpThreads(target: DeviceTarget): number {
  return splitCores({ onCpu: target.provider === 'cpu' }).intraOpThreads
}

/**
 * Options of models whose prompts have any length: memory is planned anew for each, where a plan for every shape that was ever
 * run would be kept.
 */
export const anyShapes: SessionOptions = { enableMemPattern: false }

/** Session options of exactly this device, without a fallback to another execution provider. */
export function sessionOptions(
  target: DeviceTarget,
  intraOpThreads = defaultIntraOpThreads(target),
): SessionOptions {
  const { provider, deviceId } = target
  return {
    executionProviders: [provider === 'cuda' ? { name: 'cuda', deviceId } : provider],
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    // Errors are thrown; ONNX Runtime must not print them as well.
    logSeverityLevel: 4,
  }
}
