import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { bucketsUpTo } from '../../processor/engine/batch.ts'
import { DevicePool } from '../../processor/engine/device-pool.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { PixelBuffers } from '../../processor/engine/pixel-buffers.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { drawScenes } from './scenes.ts'

/** The starter model's engine alone: full batches that are decoded already, unpruned. */
export async function openBareEngine(device: string, batch: number) {
  const model = await openModel(bundledModel)
  const { devices } = await resolveDevices(device)
  const pool = await DevicePool.start({ model, devices, buckets: bucketsUpTo(batch) })
  const { pixels } = new PixelBuffers(model.image, batch).take()
  pixels.set((await drawScenes(5, batch)).pixels)
  const prompt = Array.from({ length: batch }, () => [model.startId])
  return {
    async imagesPerSecond(images: number): Promise<number> {
      const start = performance.now()
      for (let done = 0; done < images; done += batch)
        await pool.devices[0]!.run({ pixels, count: batch, prompt, schedule: model.levels[0]! })
      return (1000 * images) / (performance.now() - start)
    },
    close: () => pool.close(),
  }
}
