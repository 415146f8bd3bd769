import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { CaptionText } from '../../edge/contract/caption.ts'
import { readPicture } from '../engine/read-picture.ts'
import { openModel } from '../models/open-model.ts'
import { pictureBytes, wholePicture } from '../models/pictures.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import { editJson, readExpected, tinyBlip, withCopy } from '../models/tiny-blip.fixture.ts'
import { perLayer } from '../turbo/schedule.ts'
import { type Calibrator, startCalibrator } from './calibrator.ts'
import { toBatches } from './pictures.ts'

const start = async (folder: string) =>
  startCalibrator({
    model: await openModel(folder),
    device: { name: 'cpu', provider: 'cpu', deviceId: 0 },
    precision: 'float32',
    batch: 4,
    intraOpThreads: 1,
  })

let calibrator: Calibrator
beforeAll(async () => {
  calibrator = await start(tinyBlip)
})
afterAll(() => calibrator.close())

it('captions batches, those that are not full too', async () => {
  const { pixels, ids } = await readExpected()
  const { decode } = await openModel(tinyBlip)
  const { picture, encoder } = calibrator.model
  const bytes = pictureBytes(picture, wholePicture)
  const pictures = ids.map((_, i) => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes))
    shared.set(pixels.subarray(i * bytes, (i + 1) * bytes))
    return { pixels: shared, shape: wholePicture }
  })
  const [batch] = toBatches(pictures, calibrator.batch)
  const none = perLayer(0, encoder.layers)
  const { captions, inferenceMs } = await calibrator.run(batch!, { r: none, weight: none })
  expect(captions).toEqual(ids.map(decode))
  expect(inferenceMs).toBeGreaterThan(0)
  const half = perLayer(12, encoder.layers)
  expect((await calibrator.run(batch!, { r: half, weight: none })).captions).toHaveLength(ids.length)
})

it('has the captions of float32 beside those of int8', async () => {
  const cache = await mkdtemp(join(tmpdir(), 'turbine-calibrator-'))
  vi.stubEnv('XDG_CACHE_HOME', cache)
  const device = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
  const model = await openModel(tinyBlip)
  const rounded = await startCalibrator({ model, device, precision: 'int8', batch: 4, intraOpThreads: 1 })
  try {
    expect(rounded.device).toBe('cpu, int8')
    const { pixels, ids } = await readExpected()
    const shared = new Uint8Array(new SharedArrayBuffer(pictureBytes(model.picture, wholePicture)))
    shared.set(pixels.subarray(0, shared.length))
    const [batch] = toBatches([{ pixels: shared, shape: wholePicture }], 4)
    expect(await rounded.reference!(batch!)).toEqual([model.decode(ids[0]!)])
    expect((await rounded.run(batch!, model.levels[0]!)).captions).toHaveLength(1)
    expect(calibrator.reference).toBeUndefined()
  } finally {
    await rounded.close()
    vi.unstubAllEnvs()
    await rm(cache, { recursive: true })
  }
})

describe('of other families', () => {
  async function captionsOf(name: string, { r, request }: { r: number; request?: CaptionText }) {
    const reference = referenceOf(name)
    const calibrator = await startCalibrator({
      model: await openModel(reference.folder),
      device: { name: 'cpu', provider: 'cpu', deviceId: 0 },
      precision: 'float32',
      batch: 2,
      intraOpThreads: 1,
      request,
    })
    try {
      const { picture, encoder } = calibrator.model
      const views = Object.values(reference.views).slice(0, 2)
      const pictures = await Promise.all(views.map((view) => readPicture(reference.picture(view), picture)))
      const schedule = { r: perLayer(r, encoder.layers), weight: perLayer(0, encoder.layers) }
      return await calibrator.run({ pictures, count: pictures.length }, schedule)
    } finally {
      await calibrator.close()
    }
  }

  it.each(['smolvlm', 'llava', 'vit-gpt2', 'wd-tagger'])('captions with %s at any level', async (name) => {
    const unpruned = await captionsOf(name, { r: 0 })
    expect(unpruned.captions.filter(Boolean)).toHaveLength(2)
    expect((await captionsOf(name, { r: 0 })).captions).toEqual(unpruned.captions)
    expect((await captionsOf(name, { r: 24 })).captions).not.toEqual(unpruned.captions)
  })

  it('asks what it is told to', async () => {
    const asked = await captionsOf('smolvlm', { r: 0, request: { text: 'What colour is it?' } })
    expect(asked.captions).not.toEqual((await captionsOf('smolvlm', { r: 0 })).captions)
  })

  it.each(['qwen2-vl', 'florence2'])('refuses %s, in which nothing merges', async (name) => {
    await expect(captionsOf(name, { r: 0 })).rejects.toThrow(
      /has no levels to calibrate: Turbo has no place in it \(.+\)\. It is served unpruned\.$/,
    )
  })
})

it('names the device, and tells models apart by their content', async () => {
  expect(calibrator.device).toBe('cpu, float32')
  const digests = await Promise.all(
    [
      async () => {},
      (folder: string) => editJson(join(folder, 'config.json'), (json) => ({ ...json, note: 1 })),
    ].map((change) =>
      withCopy(change, async (folder) => {
        const copy = await start(folder)
        await copy.close()
        return copy.modelDigest
      }),
    ),
  )
  expect(digests[0]).toBe(calibrator.modelDigest)
  expect(digests[1]).not.toBe(calibrator.modelDigest)
})
