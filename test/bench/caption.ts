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
  /** Scenes that int8 and float32 are compared on. */
  scenes: number
  /** Of the model beside the starter; default BLIP-base's. */
  sizes?: BlipSizes
  /** For the starter, ascending; default 1, 2, 4, 8 and 16. */
  batchSizes?: number[]
}

/**
 * Whole captioning, pixels to ids: BLIP-base sizes at r = 40, in float32 and int8, and the starter model at every level and
 * batch size, with the share of captions that int8 leaves as they are.
 */
export async function benchCaption(options: CaptionBenchOptions): Promise<void> {
  const { rounds, batch, sizes = blipBase, batchSizes = [1, 2, 4, 8, 16], scenes } = options
  const base = await benchBase(await openBlip(await randomBlip(benchFolder, sizes)), { rounds, batch })
  const starter = await openBlip(bundledModel)
  const exact = await compareInt8(starter, scenes)
  const rates = await benchStarter(starter, { rounds, batchSizes })
  printResult('caption', {
    ...base,
    exact_int8: exact[0],
    exact_int8_by_level: exact,
    ...{ batch, rounds, scenes },
    starter_images_per_second: rates,
  })
}

/** Random weights never end a caption, so every row is decoded to its full length, with and without Turbo. */
async function benchBase(model: BlipModel, { rounds, batch }: { rounds: number; batch: number }) {
  const plain = await openBareSession(model, { mode: 'none' })
  const turbo = await openBareSession(model)
  const int8 = await openBareSession(model, { int8: true })
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
      int8: () => int8.caption(pixels, schedule(0)),
      int8R40: () => int8.caption(pixels, schedule(40)),
    },
    rounds,
  )
  await plain.close()
  await turbo.close()
  await int8.close()
  const result = {
    speedup_r40: speedup(times.none, times.r40),
    overhead_r0: 1 / speedup(times.none, times.r0) - 1,
    speedup_int8: speedup(times.r0, times.int8),
    speedup_int8_r40: speedup(times.r0, times.int8R40),
    images_per_second_none: (1000 * batch) / median(times.none),
    images_per_second_r40: (1000 * batch) / median(times.r40),
    images_per_second_int8: (1000 * batch) / median(times.int8),
    images_per_second_int8_r40: (1000 * batch) / median(times.int8R40),
  }
  console.log(
    `BLIP-base sizes, batch ${batch}: ${result.images_per_second_none.toFixed(2)} images/s without Turbo, ` +
      `${result.images_per_second_r40.toFixed(2)} at r = 40, ${result.speedup_r40.toFixed(2)} times; in int8 ` +
      `${result.images_per_second_int8.toFixed(2)} and ${result.images_per_second_int8_r40.toFixed(2)}, ` +
      `${result.speedup_int8.toFixed(2)} and ${result.speedup_int8_r40.toFixed(2)} times float32 at r = 0`,
  )
  return result
}

/** Share of captions of held-out scenes that are in int8 as in float32, by level. */
async function compareInt8(model: BlipModel, count: number): Promise<number[]> {
  const float32 = await openBareSession(model)
  const int8 = await openBareSession(model, { int8: true })
  const { pixels } = await drawScenes(11, count)
  const imageBytes = pixels.length / count
  const shares: number[] = []
  for (const level of model.levels) {
    let equal = 0
    for (let at = 0; at < count; at += comparedAtOnce) {
      const batch = pixels.subarray(at * imageBytes, (at + comparedAtOnce) * imageBytes)
      const [all, rounded] = [await float32.caption(batch, level), await int8.caption(batch, level)]
      equal += all.filter((ids, image) => ids.join() === rounded[image]!.join()).length
    }
    shares.push(equal / count)
  }
  await float32.close()
  await int8.close()
  console.log(
    `starter model in int8: captions as in float32 by level, ${shares.map((share) => share.toFixed(4)).join(', ')}`,
  )
  return shares
}

const comparedAtOnce = 16

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
