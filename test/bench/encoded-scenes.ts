import sharp from 'sharp'
import { heldOutScenes, renderScene, SIDE } from '../../infra/starter-model/scenes.ts'

/** Held-out scenes as small JPEG files, of the model's own size; the same for the same arguments. */
export function encodeScenes(seed: number, count: number, quality = 80): Promise<Buffer[]> {
  return Promise.all(
    heldOutScenes(seed, count).map(async (scene) =>
      sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .jpeg({ quality })
        .toBuffer(),
    ),
  )
}
