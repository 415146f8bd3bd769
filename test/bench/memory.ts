import sharp from 'sharp'
import { loadConfig } from '../../infra/config.ts'
import { heldOutScenes, renderScene, SIDE } from '../../infra/starter-model/scenes.ts'
import { openCaptioner } from '../../processor/pipeline/open.ts'
import { printResult } from './measure.ts'

/** Resident memory while many encoded images go through decoding, queue, batches and device. */
export async function benchMemory({ images }: { images: number }): Promise<void> {
  const { config } = loadConfig()
  const captioner = await openCaptioner(config)
  const encoded = await Promise.all(
    heldOutScenes(11, 64).map(async (scene) =>
      sharp(await renderScene(scene), { raw: { width: SIDE, height: SIDE, channels: 3 } })
        .jpeg()
        .toBuffer(),
    ),
  )
  const residentMb: number[] = []
  let next = 0
  const worker = async () => {
    while (next < images) {
      const index = next++
      await captioner.caption({ image: encoded[index % encoded.length]!, lane: 'batch', level: 5 })
      if ((index + 1) % Math.floor(images / 10) === 0) {
        residentMb.push(Math.round(process.memoryUsage().rss / 2 ** 20))
        console.log(`${index + 1} images: ${residentMb.at(-1)} MB resident`)
      }
    }
  }
  await Promise.all(Array.from({ length: captioner.concurrency }, worker))
  await captioner.close()
  printResult('memory', { images, rss_mb: residentMb, growth_mb: residentMb.at(-1)! - residentMb[1]! })
}
