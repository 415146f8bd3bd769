import { caption, heldOutScenes, renderScene } from '../../infra/starter-model/scenes.ts'

/** Drawn held-out scenes with their right captions. */
export interface DrawnScenes {
  captions: string[]
  /** `uint8 [count, 224, 224, 3]` */
  pixels: Uint8Array
}

/** Draws held-out scenes; the same for the same seed. */
export async function drawScenes(seed: number, count: number): Promise<DrawnScenes> {
  const scenes = heldOutScenes(seed, count)
  const first = await renderScene(scenes[0]!)
  const pixels = new Uint8Array(count * first.length)
  for (const [i, scene] of scenes.entries()) pixels.set(await renderScene(scene), i * first.length)
  return { captions: scenes.map(caption), pixels }
}
