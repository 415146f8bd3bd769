import { describe, expect, it } from 'vitest'
import { DeviceUnavailableError } from './device-errors.ts'
import type { DeviceTarget } from './device-target.ts'
import { parseDevices, resolveDevices } from './devices.ts'

const names = (targets: DeviceTarget[]) => targets.map((target) => target.name)
const works = async () => {}
const missing = async (target: DeviceTarget) => {
  throw new DeviceUnavailableError(target.name, 'the NVIDIA driver shows no GPU', 'Install the driver.')
}

describe('parseDevices', () => {
  it.each([
    ['cpu', ['cpu']],
    ['CUDA', ['cuda:0']],
    ['cuda:2', ['cuda:2']],
    ['cuda:0,1,2,3', ['cuda:0', 'cuda:1', 'cuda:2', 'cuda:3']],
    [' webgpu ', ['webgpu']],
  ])('reads %s', (spec, expected) => {
    const parsed = parseDevices(spec)
    expect(parsed === 'auto' ? [] : names(parsed)).toEqual(expected)
  })

  it('gives GPUs their number', () => {
    expect(parseDevices('cuda:5')).toEqual([{ name: 'cuda:5', provider: 'cuda', deviceId: 5 }])
  })

  it.each(['', 'gpu', 'cuda:', 'cuda:a', 'cuda:0,', 'cuda:1,1', 'cuda:-1', 'cpu:0', 'cuda:0,cpu'])(
    'refuses "%s" and says what there is',
    (spec) => {
      expect(() => parseDevices(spec)).toThrow(/unknown\. Use auto, cpu, cuda:0, cuda:0,1,2,3 or webgpu\.$/)
    },
  )
})

describe('resolveDevices', () => {
  it('takes what was asked for', async () => {
    const { devices, reason } = await resolveDevices('cuda:0,1', { probe: works })
    expect(names(devices)).toEqual(['cuda:0', 'cuda:1'])
    expect(reason).toBe('cuda:0, cuda:1, as configured')
  })

  it.each(['cuda:0', 'cuda:0,1', 'webgpu'])('refuses %s when it is not there, in one line', async (spec) => {
    const error = await resolveDevices(spec, { probe: missing }).catch((e: Error) => e)
    expect(error).toMatchObject({ name: 'DeviceUnavailableError', retriable: false })
    expect((error as Error).message).toMatch(/^Device .* is not available: .*\. Install the driver\.$/)
  })

  it('refuses when only some of the devices are there', async () => {
    const probe = (target: DeviceTarget) => (target.deviceId === 1 ? missing(target) : works())
    await expect(resolveDevices('cuda:0,1', { probe })).rejects.toMatchObject({ device: 'cuda:1' })
  })

  it('auto takes the first GPU', async () => {
    const { devices, reason } = await resolveDevices('auto', { probe: works })
    expect(names(devices)).toEqual(['cuda:0'])
    expect(reason).toMatch(/first CUDA GPU/)
  })

  it('auto takes the CPU where there is no GPU, and says why', async () => {
    const { devices, reason } = await resolveDevices('auto', { probe: missing })
    expect(names(devices)).toEqual(['cpu'])
    expect(reason).toBe('cpu, no usable CUDA GPU: the NVIDIA driver shows no GPU')
  })

  it('auto does not hide other trouble', async () => {
    const probe = () => Promise.reject(new Error('disk full'))
    await expect(resolveDevices('auto', { probe })).rejects.toThrow('disk full')
  })
})
