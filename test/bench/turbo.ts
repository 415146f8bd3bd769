import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import type { GraphOptions } from '../../processor/models/model.ts'
import { perLayer, semanticWeights } from '../../processor/turbo/schedule.ts'
import { benchFolder } from './folders.ts'
import { interleave, median, printResult, speedup } from './measure.ts'
import { smoothPixels } from './pixels.ts'
import { type BlipSizes, blipBase, randomBlip } from './random-blip.ts'
import { type BareSession, openBareSession } from './session.ts'

export interface TurboBenchOptions {
  rounds: number
  batch: number
  /** Of the model beside the starter; default BLIP-base's. */
  sizes?: BlipSizes
}

/** The encoder alone: a graph without Turbo against the Turbo graph at several r, BLIP-base sizes and the starter. */
export async function benchTurbo({ sizes = blipBase, ...options }: TurboBenchOptions): Promise<void> {
  const model = await openBlip(await randomBlip(benchFolder, sizes))
  const base = await measure(model, [0, 16, 40], options)
  const lone = await measure(model, [0, 16, 40], { rounds: 2 * options.rounds, batch: 1 })
  const starter = await measure(await openBlip(bundledModel), [0, 4, 8, 12, 14, 16], {
    rounds: 2 * options.rounds,
    batch: 8,
  })
  const overhead = ({ speedups }: typeof base) => 1 / speedups.get(0)! - 1
  printResult('turbo', {
    speedup_r40: base.speedups.get(40),
    overhead_r0: overhead(base),
    batch_1_speedup_r40: lone.speedups.get(40),
    batch_1_overhead_r0: overhead(lone),
    starter_speedup_r14: starter.speedups.get(14),
    starter_overhead_r0: overhead(starter),
    batch: options.batch,
    rounds: options.rounds,
  })
}

async function measure(model: BlipModel, rs: number[], { rounds, batch }: { rounds: number; batch: number }) {
  const encoder = (mode: GraphOptions['mode']) => openBareSession(model, { mode, decoder: false })
  const plain = await encoder('none')
  const turbo = await encoder('turbo')
  const pixels = smoothPixels(batch, model.picture)
  const run = (session: BareSession, r: number) => () => {
    const perLayerR = perLayer(r, model.encoder.layers)
    return session.run(pixels, { r: perLayerR, weight: semanticWeights(perLayerR) })
  }
  const cases = {
    none: run(plain, 0),
    ...Object.fromEntries(rs.map((r) => [`r${r}`, run(turbo, r)])),
  } as Record<string, () => Promise<unknown>>
  const times = await interleave(cases, rounds)
  await plain.close()
  await turbo.close()

  console.log(`encoder of ${model.id}, batch ${batch}, ${rounds} rounds: median ms, speed-up over no Turbo`)
  console.log(`  ${'none'.padEnd(6)}${median(times.none!).toFixed(0).padStart(8)}`)
  const speedups = new Map(rs.map((r) => [r, speedup(times.none!, times[`r${r}`]!)]))
  for (const [r, gain] of speedups)
    console.log(
      `  ${`r ${r}`.padEnd(6)}${median(times[`r${r}`]!).toFixed(0).padStart(8)}${gain.toFixed(3).padStart(9)}`,
    )
  return { speedups }
}
