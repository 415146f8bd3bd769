import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { BlipModel } from '../../../processor/models/blip.ts'
import { benchFolder } from '../folders.ts'
import { median } from '../measure.ts'
import { openPython } from '../peers/environment.ts'
import type { PeerRequest } from '../peers/process.ts'
import { pythonSide } from '../peers/sides.ts'
import { repeatedPixels } from '../pixels.ts'
import type { Target } from './engine.ts'
import type { GpuOptions } from './options.ts'

export interface TorchResult {
  /** From pixels on the device to ids, by batch size. */
  images_per_second: Record<number, number>
  /** From the files of the folder. */
  photos_per_second: number
  versions: Record<string, string>
}

/** PyTorch on the same model folder and photos, as it is and compiled; why it was not measured. */
export async function benchTorch(
  model: BlipModel,
  { photos, target, options }: { photos: string; target: Target; options: GpuOptions },
): Promise<Record<string, TorchResult | string>> {
  const { batches, rounds, ids } = options
  const pictures = join(benchFolder, `repeated-${model.picture.width}`)
  await writeFile(pictures, repeatedPixels(Math.max(...batches), model.picture))
  const python = await openPython({ python: options.python, install: false })
  const given = { folder: model.folder, pictures, threads: availableParallelism(), ids, python }
  const side = { engine: 'torch', precision: target.float16 ? 'float16' : 'float32' } as const
  const device = target.gpu ? target.device.name : 'cpu'
  const result: Record<string, TorchResult | string> = {}
  for (const compile of [false, true]) {
    const name = compile ? 'compiled' : 'eager'
    try {
      const peer = await pythonSide({ ...side, device, compile }).open(given)
      const rateOf = async (images: number, request: PeerRequest, times: number) => {
        const ms: number[] = []
        // The first run loads and compiles.
        for (let round = -1; round < times; round++) {
          const answer = await peer.ask(request)
          if (round >= 0) ms.push(answer.ms)
        }
        return (1000 * images) / median(ms)
      }
      const rates: Record<number, number> = {}
      for (const batch of batches) rates[batch] = await rateOf(batch, { batch }, rounds)
      const photosRate = await rateOf(options.photos, { batch: Math.max(...batches), photos }, 1)
      await peer.close()
      result[name] = { images_per_second: rates, photos_per_second: photosRate, versions: peer.versions }
      const cells = Object.entries(rates).map(([batch, each]) => `batch ${batch} ${each.toFixed(1)}/s`)
      console.log(`  PyTorch ${name}: ${cells.join('  ')}  photos ${photosRate.toFixed(1)}/s`)
    } catch (error) {
      result[name] = (error as Error).message
      console.log(`  PyTorch ${name}: skipped, ${result[name]}`)
    }
  }
  return result
}
