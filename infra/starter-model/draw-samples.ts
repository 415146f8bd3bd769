/**
 * Draws the pictures in `samples/`, each named after its caption:
 *
 *     node infra/starter-model/draw-samples.ts
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { caption, heldOutScenes, renderScene, SIDE } from './scenes.ts'

const SEED = 9
const CHOSEN = [0, 10, 11, 23]

const folder = join(import.meta.dirname, 'samples')
const scenes = heldOutScenes(SEED, Math.max(...CHOSEN) + 1)
await mkdir(folder, { recursive: true })
for (const index of CHOSEN) {
  const scene = scenes[index]!
  const name = caption(scene).replace(/^a /, '').replaceAll(' ', '-')
  await sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
    .jpeg({ quality: 92, chromaSubsampling: '4:4:4' })
    .toFile(join(folder, `${name}.jpg`))
}
