import { availableParallelism } from 'node:os'
import type { SessionOptions } from '../onnx/session.ts'
import type { DeviceTarget } from './device-target.ts'

/** Threads that one operator is split over: all cores on the CPU, one beside a GPU. */
function defaultIntraOpThreads(target: DeviceTarget): number {
  return target.provider === 'cpu' ? availableParallelism() : 1
}

/** Opens a session on exactly this device: no other execution provider is named to fall back on. */
export function sessionOptions(
  target: DeviceTarget,
  intraOpThreads = defaultIntraOpThreads(target),
): SessionOptions {
  const { provider, deviceId } = target
  return {
    executionProviders: [provider === 'cuda' ? { name: 'cuda', deviceId } : provider],
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    // What goes wrong is thrown, with the same words; printing it too would say everything twice.
    logSeverityLevel: 4,
  }
}
