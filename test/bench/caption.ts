import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import { perLayer, type Schedule, semanticWeights } from '../../processor/turbo/schedule.ts'
import { benchFolder } from './folders.ts'
import { interleave, median, printResult, speedup } from './measure.ts'
import { smoothPixels } from './pixels.ts'
import { type BlipSizes, blipBase, randomBlip } from './random-blip.ts'
import { drawScenes } from './scenes.ts'
import { openBareSession } from './session.ts'

export interface CaptionBenchOptions {
  rounds: number
  batch: number
  /** Of the model beside the starter; default BLIP-base's. */
  sizes?: BlipSizes
  /** For the starter, ascending; default 1, 2, 4, 8 and 16. */
  batchSizes?: number[]
}

/** Whole captioning, pixels to ids: BLIP-base sizes at r = 40, and the starter model at every level and batch size. */
export async function benchCaption(options: CaptionBenchOptions): Promise<void> {
  const { rounds, batch, sizes = blipBase, batchSizes = [1, 2, 4, 8, 16] } = options
  const base = await benchBase(await openBlip(await randomBlip(benchFolder, sizes)), { rounds, batch })
  const starter = await benchStarter(await openBlip(bundledModel), { rounds, batchSizes })
  printResult('caption', { ...base, batch, rounds, starter_images_per_second: starter })
}

/** Random weights never end a caption, so every row is decoded to its full length, with and without Turbo. */
async function benchBase(model: BlipModel, { rounds, batch }: { rounds: number; batch: number }) {
  const plain = await openBareSession(model, { mode: 'none' })
  const turbo = await openBareSession(model)
  const pixels = smoothPixels(batch, model.picture)
  const schedule = (value: number): Schedule => {
    const r = perLayer(value, model.encoder.layers)
    return { r, weight: semanticWeights(r) }
  }
  const times = await interleave(
    {
      none: () => plain.caption(pixels, schedule(0)),
      r0: () => turbo.caption(pixels, schedule(0)),
      r40: () => turbo.caption(pixels, schedule(40)),
    },
    rounds,
  )
  await plain.close()
  await turbo.close()
  const result = {
    speedup_r40: speedup(times.none, times.r40),
    overhead_r0: 1 / speedup(times.none, times.r0) - 1,
    images_per_second_none: (1000 * batch) / median(times.none),
    images_per_second_r40: (1000 * batch) / median(times.r40),
  }
  console.log(
    `BLIP-base sizes, batch ${batch}: ${result.images_per_second_none.toFixed(2)} images/s without Turbo, ` +
      `${result.images_per_second_r40.toFixed(2)} at r = 40, ${result.speedup_r40.toFixed(2)} times`,
  )
  return result
}

/** Images per second on held-out scenes: one row for each level, one column for each batch size. */
async function benchStarter(
  model: BlipModel,
  { rounds, batchSizes }: { rounds: number; batchSizes: number[] },
): Promise<number[][]> {
  const session = await openBareSession(model)
  const { pixels } = await drawScenes(7, batchSizes.at(-1)!)
  const imageBytes = pixels.length / batchSizes.at(-1)!
  const cases = Object.fromEntries(
    model.levels.flatMap((level, index) =>
      batchSizes.map((size) => [
        `${index}/${size}`,
        () => session.caption(pixels.subarray(0, size * imageBytes), level),
      ]),
    ),
  )
  const times = await interleave(cases, rounds)
  await session.close()
  const table = model.levels.map((_, index) =>
    batchSizes.map((size) => (1000 * size) / median(times[`${index}/${size}`]!)),
  )
  console.log(`starter model, images/s by level and batch size ${batchSizes.join(', ')}`)
  for (const [index, row] of table.entries())
    console.log(`  level ${index}${row.map((rate) => rate.toFixed(1).padStart(8)).join('')}`)
  return table
}
