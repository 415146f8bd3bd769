import sharp from 'sharp'
import { maxBodyBytes } from '../../edge/contract/caption.ts'
import { loadConfig } from '../../infra/config.ts'
import { imageSourceOf } from '../../infra/fetch/image-source.ts'
import { heldOutScenes, renderScene, SIDE } from '../../infra/starter-model/scenes.ts'
import { releaseImages } from '../../processor/decoding/loaders/loaded-image.ts'
import { openLoading } from '../../processor/pipeline/loading.ts'
import { openCaptioner } from '../../processor/pipeline/open.ts'
import { printResult } from './measure.ts'

/** Resident memory while many encoded images go through loaders, decoding, queue, batches and device, in both lanes. */
export async function benchMemory({ images }: { images: number }): Promise<void> {
  const { config } = loadConfig()
  const loading = await openLoading(config, { version: 'bench', maxBytes: maxBodyBytes })
  const captioner = await openCaptioner(config, loading)
  const imageAt = imageSourceOf(loading.loaders.reader, {})
  const { signal } = new AbortController()
  const granted = () => {
    throw new Error('no image is in S3')
  }
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
      const address = `data:image/jpeg;base64,${encoded[index % encoded.length]!.toString('base64')}`
      // Half of them as lines of batches have them, half as callers send them.
      const inBatch = index % 2 === 0
      const image = inBatch ? await imageAt(address, { granted, signal }) : encoded[index % encoded.length]!
      await captioner.caption({ image, lane: inBatch ? 'batch' : 'interactive', level: 5 })
      releaseImages([image])
      if ((index + 1) % Math.floor(images / 10) === 0) {
        residentMb.push(Math.round(process.memoryUsage().rss / 2 ** 20))
        console.log(`${index + 1} images: ${residentMb.at(-1)} MB resident`)
      }
    }
  }
  await Promise.all(Array.from({ length: captioner.concurrency }, worker))
  await captioner.close()
  await loading.close()
  printResult('memory', { images, rss_mb: residentMb, growth_mb: residentMb.at(-1)! - residentMb[1]! })
}
