/**
 * Draws held-out pictures, e.g. to calibrate the starter model's prune levels:
 *
 *     node infra/starter-model/draw-pictures.ts --out pictures --count 600 --seed 271828
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { heldOutScenes, renderScene, SIDE } from './scenes.ts'

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    count: { type: 'string', default: '600' },
    seed: { type: 'string', default: '271828' },
  },
})
if (values.out === undefined) throw new Error('--out is required.')

await mkdir(values.out, { recursive: true })
for (const [index, scene] of heldOutScenes(Number(values.seed), Number(values.count)).entries()) {
  const name = `${String(index).padStart(5, '0')}.jpg`
  await sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
    .jpeg({ quality: 92, chromaSubsampling: '4:4:4' })
    .toFile(join(values.out, name))
}
