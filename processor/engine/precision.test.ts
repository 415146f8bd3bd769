import sharp from 'sharp'
import { expect, it } from 'vitest'
import { openBlip } from '../models/blip.ts'
import type { GraphOptions } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { agreeInFloat16, choosePrecision } from './precision.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const images = [
  await sharp({ create: { width: 64, height: 64, channels: 3, background: 'teal' } })
    .png()
    .toBuffer(),
]

it('computes in float32 on a CPU', async () => {
  const model = await openModel(tinyBlip)
  expect(await choosePrecision({ model, device: cpu, images })).toMatchObject({ precision: 'float32' })
})

it('finds that float16 agrees on an easy picture', async () => {
  expect(await agreeInFloat16({ model: await openModel(tinyBlip), device: cpu, images })).toBe(true)
})

it('finds a graph whose float16 captions differ', async () => {
  const model = await openBlip(tinyBlip)
  // Stands for a model that float16 does not suit: it merges other tokens.
  const altered = {
    ...model,
    buildSessions: ({ float16 }: GraphOptions = {}) => model.buildSessions(float16 ? { mode: 'random' } : {}),
  }
  const width = model.picture.width
  const noise = Uint8Array.from({ length: width * width * 3 }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24)
  const picture = await sharp(noise, { raw: { width, height: width, channels: 3 } })
    .png()
    .toBuffer()
  expect(await agreeInFloat16({ model: altered, device: cpu, images: [picture] })).toBe(false)
})
