import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { env, Tensor } from 'onnxruntime-node'
import { Graph } from '../onnx/graph.ts'
import { openSession } from '../onnx/session.ts'
import { DeviceUnavailableError } from './device-errors.ts'
import type { DeviceTarget } from './device-target.ts'
import { sessionOptions } from './session-options.ts'

/** Fault of a device, with its remedy. */
export interface Diagnosis {
  reason: string
  remedy: string
}

/** A remedy ends with the choice of another device. */
const diagnosis = (reason: string, remedy: string): Diagnosis => ({
  reason,
  remedy: `${remedy}, or choose another device (--device cpu).`,
})

/**
 * Runs a graph of one addition on the device.
 *
 * @throws DeviceUnavailableError when it cannot; its message names what is missing and what helps.
 */
export async function probeDevice(target: DeviceTarget): Promise<void> {
  if (target.provider === 'cpu') return
  const obstacle = target.provider === 'cuda' ? cudaObstacle(cudaInstallation()) : undefined
  if (obstacle) throw new DeviceUnavailableError(target.name, obstacle.reason, obstacle.remedy)
  try {
    await runAddition(target)
  } catch (cause) {
    const missing = target.provider === 'cuda' ? missingLibrary(cudaLibrary) : undefined
    const { reason, remedy } = diagnose(target, String(cause), missing)
    throw new DeviceUnavailableError(target.name, reason, remedy, cause)
  }
}

/** CUDA on this machine, as far as files show. */
export interface CudaInstallation {
  /** As Node names it: `linux/x64`. */
  platform: string
  /** The provider's library is beside ONNX Runtime. */
  library: boolean
  /** The driver shows a GPU. */
  gpu: boolean
}

/** Finds by files alone why CUDA cannot work here; undefined when it may. */
export function cudaObstacle({ platform, library, gpu }: CudaInstallation): Diagnosis | undefined {
  if (platform !== 'linux/x64')
    return {
      reason: `ONNX Runtime for Node has CUDA on linux/x64 only, this is ${platform}`,
      remedy: 'Choose another device (--device cpu).',
    }
  if (!gpu)
    return diagnosis(
      'the NVIDIA driver shows no GPU',
      'Install the driver (nvidia-smi must list the GPU; containers need --gpus all)',
    )
  if (!library) return diagnosis("ONNX Runtime's CUDA library is not installed", 'Run "npm run cuda:install"')
  return undefined
}

/**
 * Makes a remedy of an error that ONNX Runtime gave when a session was opened. `library` is the shared library
 * that the CUDA provider misses, when one is known to be missing.
 */
export function diagnose(target: DeviceTarget, error: string, library?: string): Diagnosis {
  const reason = firstLine(error)
  if (target.provider === 'webgpu')
    return diagnosis(
      /adapter/i.test(error) ? 'there is no WebGPU adapter' : reason,
      'Install a GPU driver with Vulkan, Metal or Direct3D 12',
    )
  if (library?.startsWith('libcuda.')) return diagnosis(`${library} is missing`, 'Install the NVIDIA driver')
  if (library !== undefined)
    return diagnosis(
      `${library} is missing`,
      'Install the CUDA version of that number with cuDNN 9 and list its folder in LD_LIBRARY_PATH',
    )
  if (/invalid device ordinal/i.test(error))
    return diagnosis(
      `there is no GPU ${target.deviceId}`,
      'See nvidia-smi and CUDA_VISIBLE_DEVICES for those that are there',
    )
  if (/driver version is insufficient/i.test(error))
    return diagnosis('the NVIDIA driver is older than the CUDA libraries', 'Update the driver')
  return diagnosis(reason, 'Check the driver (nvidia-smi), CUDA and cuDNN 9 on LD_LIBRARY_PATH')
}

async function runAddition(target: DeviceTarget): Promise<void> {
  // A failing provider also prints its error; the one that is thrown says all.
  env.logLevel = 'fatal'
  const g = new Graph()
  const x = g.input('x', 'float32', [1])
  g.output('y', g.add(x, x), [1])
  const session = await openSession(g.toModel(), '.', sessionOptions(target, 1))
  const { y } = await session.run({ x: new Tensor('float32', [21], [1]) })
  await session.release()
  if (y?.data[0] !== 42) throw new Error(`21 + 21 gave ${y?.data[0]}`)
}

const platform = `${process.platform}/${process.arch}`
const runtimeFolder = join(
  dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
  'bin/napi-v6',
  platform,
)
const cudaLibrary = join(runtimeFolder, 'libonnxruntime_providers_cuda.so')

function cudaInstallation(): CudaInstallation {
  return { platform, library: existsSync(cudaLibrary), gpu: platform === 'linux/x64' && hasGpuFile() }
}

/** The driver's device files; `dxg` is the one of WSL. */
function hasGpuFile(): boolean {
  return readdirSync('/dev').some((name) => /^(nvidia\d+|dxg)$/.test(name))
}

/** Name of the library without which `file` cannot be loaded, as the dynamic linker reports it. */
export function missingLibrary(file: string): string | undefined {
  try {
    process.dlopen({ exports: {} }, file)
  } catch (error) {
    return /(lib[^\s:/]+\.so[^\s:]*): cannot open shared object file/.exec(String(error))?.[1]
  }
  return undefined
}

const firstLine = (text: string): string =>
  text
    .replace(/^Error: /, '')
    .split('\n')[0]!
    .slice(0, 200)
