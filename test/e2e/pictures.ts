import sharp from 'sharp'
import { heldOutScenes, renderScene, SIDE } from '../../infra/starter-model/scenes.ts'

/** A scene's pixels, `uint8 [SIDE, SIDE, 3]`, and files of it. */
export interface Picture {
  pixels: Uint8Array
  png: Uint8Array<ArrayBuffer>
  jpeg: Uint8Array<ArrayBuffer>
}

/** Draws held-out scenes, the same ones every time. The starter model sees them in their own size. */
export function drawPictures(count: number): Promise<Picture[]> {
  return Promise.all(
    heldOutScenes(1, count).map(async (scene) => {
      const pixels = await renderScene(scene)
      const image = sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } })
      const png = new Uint8Array(await image.clone().png().toBuffer())
      const jpeg = new Uint8Array(await image.clone().jpeg({ quality: 92 }).toBuffer())
      return { pixels, png, jpeg }
    }),
  )
}
