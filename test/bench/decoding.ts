import { preprocess } from '../../processor/engine/preprocess.ts'
import type { CaptionModel } from '../../processor/models/model.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { median } from './measure.ts'

/** Time in which one small JPEG is decoded and resized on a machine that does nothing else, ms (median). */
export async function measureDecoding({ image }: Pick<CaptionModel, 'image'>): Promise<number> {
  const pixels = new Uint8Array(image.height * image.width * 3)
  const times: number[] = []
  for (const picture of await encodeScenes(3, 64)) {
    const start = performance.now()
    await preprocess(picture, image, pixels)
    times.push(performance.now() - start)
  }
  return median(times)
}
