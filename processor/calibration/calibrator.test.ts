import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openModel } from '../models/open-model.ts'
import { pictureBytes, wholePicture } from '../models/pictures.ts'
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
