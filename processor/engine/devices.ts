import { DeviceUnavailableError, InvalidDeviceError } from './device-errors.ts'
import { probeDevice } from './device-probe.ts'
import type { DeviceTarget } from './device-target.ts'

export interface ResolvedDevices {
  devices: DeviceTarget[]
  /** Reason of the choice, one line. */
  reason: string
}

export interface ResolveOptions {
  /** Rejects with DeviceUnavailableError when a session cannot run there. */
  probe?(target: DeviceTarget): Promise<void>
}

const cpu: DeviceTarget = { name: 'cpu', provider: 'cpu', deviceId: 0 }
const webgpu: DeviceTarget = { name: 'webgpu', provider: 'webgpu', deviceId: 0 }
const cuda = (deviceId: number): DeviceTarget => ({ name: `cuda:${deviceId}`, provider: 'cuda', deviceId })

/**
 * Reads `auto`, `cpu`, `cuda` (the first GPU), `cuda:0`, `cuda:0,1,2,3` or `webgpu`.
 *
 * @throws InvalidDeviceError for anything else, and for a GPU that is named twice.
 */
export function parseDevices(spec: string): 'auto' | DeviceTarget[] {
  const text = spec.trim().toLowerCase()
  if (text === 'auto') return 'auto'
  if (text === 'cpu') return [cpu]
  if (text === 'webgpu') return [webgpu]
  const match = /^cuda(?::(\d{1,3}(?:,\d{1,3})*))?$/.exec(text)
  if (match === null) throw new InvalidDeviceError(spec)
  const ids = (match[1] ?? '0').split(',').map(Number)
  if (new Set(ids).size < ids.length) throw new InvalidDeviceError(spec)
  return ids.map(cuda)
}

/**
 * Resolves the devices to open. `auto` is the first CUDA GPU, or else the CPU; WebGPU must be named, since an adapter may be
 * a software one and slower than the CPU. A named device that cannot be used is an error.
 *
 * @throws InvalidDeviceError, DeviceUnavailableError
 * @example const { devices, reason } = await resolveDevices('cuda:0,1')
 */
export async function resolveDevices(spec: string, options: ResolveOptions = {}): Promise<ResolvedDevices> {
  const { probe = probeDevice } = options
  const asked = parseDevices(spec)
  if (asked === 'auto') return best(probe)
  for (const target of asked) await probe(target)
  const names = asked.map((target) => target.name).join(', ')
  return { devices: asked, reason: `${names}, as configured` }
}

async function best(probe: (target: DeviceTarget) => Promise<void>): Promise<ResolvedDevices> {
  const gpu = cuda(0)
  try {
    await probe(gpu)
    return { devices: [gpu], reason: `${gpu.name}, the first CUDA GPU; use cuda:0,1 for more` }
  } catch (error) {
    if (!(error instanceof DeviceUnavailableError)) throw error
    return { devices: [cpu], reason: `cpu, no usable CUDA GPU: ${error.reason}` }
  }
}
