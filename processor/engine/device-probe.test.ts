import { describe, expect, it } from 'vitest'
import { cudaObstacle, diagnose, missingLibrary, probeDevice } from './device-probe.ts'

const cuda = { name: 'cuda:3', provider: 'cuda', deviceId: 3 } as const
const webgpu = { name: 'webgpu', provider: 'webgpu', deviceId: 0 } as const

describe('cudaObstacle', () => {
  it.each([
    [{ platform: 'darwin/arm64', library: false, gpu: false }, /linux\/x64 only/, /another device/],
    [{ platform: 'linux/x64', library: false, gpu: false }, /no GPU/, /driver/],
    [{ platform: 'linux/x64', library: false, gpu: true }, /CUDA library/, /npm run cuda:install/],
  ])('%o', (installation, reason, remedy) => {
    expect(cudaObstacle(installation)).toEqual({
      reason: expect.stringMatching(reason),
      remedy: expect.stringMatching(remedy),
    })
  })

  it('is none where all files are there', () => {
    expect(cudaObstacle({ platform: 'linux/x64', library: true, gpu: true })).toBeUndefined()
  })
})

describe('diagnose', () => {
  const load = 'Error: OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library'

  it.each([
    [load, 'libcuda.so.1', 'libcuda.so.1 is missing', /NVIDIA driver/],
    [load, 'libcublasLt.so.13', 'libcublasLt.so.13 is missing', /LD_LIBRARY_PATH/],
    ['Error: CUDA failure 101: invalid device ordinal ; GPU=3', undefined, 'there is no GPU 3', /nvidia-smi/],
    [
      'Error: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version',
      undefined,
      'the NVIDIA driver is older than the CUDA libraries',
      /Update the driver/,
    ],
    ['Error: something new\nwith lines', undefined, 'something new', /cuDNN/],
  ])('%s', (error, library, reason, remedy) => {
    expect(diagnose(cuda, error, library)).toEqual({ reason, remedy: expect.stringMatching(remedy) })
  })

  it('knows a machine without a WebGPU adapter', () => {
    const error = 'Failed to get a WebGPU adapter: No supported adapters\n'
    expect(diagnose(webgpu, error).reason).toBe('there is no WebGPU adapter')
  })
})

describe('probeDevice', () => {
  it('lets the CPU pass', async () => {
    await probeDevice({ name: 'cpu', provider: 'cpu', deviceId: 0 })
  })

  it('ends well or in one line that names the device', async () => {
    const outcome = await probeDevice(cuda).catch((error: unknown) => error)
    if (outcome !== undefined) {
      expect(outcome).toMatchObject({ name: 'DeviceUnavailableError', device: 'cuda:3' })
      expect((outcome as Error).message).toMatch(/^Device cuda:3 is not available: [^\n]+\.$/)
    }
  })
})

describe('missingLibrary', () => {
  it('names the file that the linker did not find', () => {
    expect(missingLibrary('/nowhere/libabsent.so.9')).toBe('libabsent.so.9')
  })

  it('is undefined when nothing is missing', () => {
    expect(missingLibrary(process.execPath)).toBeUndefined()
  })
})
