import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { openBlip } from '../models/blip.ts'
import { writeLevelTable } from '../models/levels.ts'
import type { GraphOptions } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip, withCopy } from '../models/tiny-blip.fixture.ts'
import { perLayer } from '../turbo/schedule.ts'
import { agreeInFloat16, askedPrecision, chooseOnCpu } from './precision.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const images = [
  await sharp({ create: { width: 64, height: 64, channels: 3, background: 'teal' } })
    .png()
    .toBuffer(),
]

describe('on a CPU', () => {
  it('computes in float32', async () => {
    expect(await chooseOnCpu(await openModel(tinyBlip))).toMatchObject({ precision: 'float32' })
  })

  it.each([
    ['cpu, int8', 0.995, 'int8', /99\.5 %/],
    ['cpu, float32', 1, 'float32', /CPUs/],
    ['cuda:0, float16', 1, 'float32', /CPUs/],
  ])('of a model that was calibrated on %s', (device, exact, precision, reason) =>
    withCopy(
      async (folder) => {
        const { encoder } = await openModel(folder)
        const none = perLayer(0, encoder.layers)
        const speed = { at: '', device, batch: 1, images_per_second: [1] }
        const pictures = { search: 1, held_out: 1 }
        await writeLevelTable(folder, {
          levels: [{ r: none, weight: none, quality: { exact, cider: 1 } }],
          calibration: { at: '', search: 1, device, pictures, speed },
        })
      },
      async (folder) => {
        const chosen = await chooseOnCpu(await openModel(folder))
        expect(chosen).toEqual({ precision, reason: expect.stringMatching(reason) })
      },
    ),
  )
})

describe('int8 as configured', () => {
  const gpu = { name: 'cuda:0', provider: 'cuda' } as const
  it.each([
    [undefined, 'int8'],
    ['fp32', 'int8'],
    ['q8', undefined],
    ['fp32, q4', undefined],
    ['q4f16', undefined],
  ])('of weights of type %s is %s', (dtype, precision) => {
    expect(askedPrecision('int8', { id: 'model', dtype }, cpu)?.precision).toBe(precision)
  })

  it.each([
    [
      'a GPU',
      undefined,
      gpu,
      /^Device cuda:0 is not available: int8 is for CPUs\. Set TURBINE_PRECISION to auto/,
    ],
    ['a GPU, of any weights', 'q8', gpu, /int8 is for CPUs/],
    ['weights of 16 bits', 'fp16', cpu, /models pull --dtype q8/],
    ['some weights of 16 bits', 'fp32, fp16', cpu, /models pull --dtype q8/],
  ])('is refused in one line for %s', (_, dtype, device, message) => {
    const ask = () => askedPrecision('int8', { id: 'model', dtype }, device)
    expect(ask).toThrow(message)
    expect(ask).not.toThrow(/\n/)
  })
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
