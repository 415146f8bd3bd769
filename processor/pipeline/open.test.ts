import { expect, it } from 'vitest'
import { loadConfig } from '../../infra/config.ts'
import { mostPictureBytes } from '../models/pictures.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import { openConfigured, precisionOf } from './open.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const gpu = { name: 'cuda:0', provider: 'cuda', deviceId: 0 } as const

function configOf(family: string, env: Record<string, string> = {}) {
  return loadConfig({ env: { TURBINE_MODEL: referenceOf(family).folder, ...env } }).config
}

it.each([
  [{}, cpu, 'fp32', 'weights of type fp32, of those that are there'],
  [{}, gpu, 'fp16', 'weights of type fp16, of those that are there'],
  [{ TURBINE_DTYPE: 'q4' }, gpu, 'q4', 'weights of type q4, as configured'],
])('with %j, on %j, a model is opened as %s', async (env, device, dtype, reason) => {
  const config = configOf('smolvlm', env)
  const model = await openConfigured(config, device)
  expect(model.dtype).toBe(dtype)
  expect(await precisionOf(config, model, device)).toMatchObject({ reason })
})

it('shows a model no more pixels than is configured', async () => {
  const bytesOf = async (env: Record<string, string>) =>
    mostPictureBytes((await openConfigured(configOf('qwen2-vl', env), cpu)).picture)
  expect(await bytesOf({ TURBINE_PICTURE_PIXELS: '4096' })).toBeLessThan(await bytesOf({}))
})
