import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { bucketsUpTo, plainRow } from '../../processor/engine/batch.ts'
import { DevicePool } from '../../processor/engine/device-pool.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { wholePicture } from '../../processor/models/pictures.ts'
import { drawScenes } from './scenes.ts'

/** The starter model's engine alone: full batches that are decoded already, unpruned. */
export async function openBareEngine(device: string, batch: number) {
  const model = await openModel(bundledModel)
  const { devices } = await resolveDevices(device)
  const pool = await DevicePool.start({ model, devices, buckets: bucketsUpTo(batch) })
  const { pixels } = await drawScenes(5, batch)
  const bytes = pixels.length / batch
  const asked = Array.from({ length: batch }, (_, index) => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes))
    shared.set(pixels.subarray(index * bytes, (index + 1) * bytes))
    return plainRow(model, { pixels: shared, shape: wholePicture })
  })
  const rows = await Promise.all(asked)
  return {
    async imagesPerSecond(images: number): Promise<number> {
      const start = performance.now()
      for (let done = 0; done < images; done += batch)
        await pool.devices[0]!.run({ rows, schedule: model.levels[0]! })
      return (1000 * images) / (performance.now() - start)
    },
    close: () => pool.close(),
  }
}
