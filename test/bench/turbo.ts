import * as ort from 'onnxruntime-node'
import { openBlip } from '../../processor/models/blip.ts'
import type { CaptionModel, GraphOptions } from '../../processor/models/model.ts'
import { openSession } from '../../processor/onnx/session.ts'
import { perLayer, type Schedule, semanticWeights } from '../../processor/turbo/schedule.ts'
import { benchFolder, starterFolder } from './folders.ts'
import { interleave, median, printResult, speedup } from './measure.ts'
import { smoothPixels } from './pixels.ts'
import { blipBase, randomBlip } from './random-blip.ts'

/** The encoder alone: a graph without Turbo against the Turbo graph at several r, BLIP-base sizes and the starter. */
export async function benchTurbo(options: { rounds: number; batch: number }): Promise<void> {
  const base = await measure(
    await openBlip(await randomBlip(benchFolder, blipBase)),
    [0, 8, 16, 24, 32, 40],
    options,
  )
  const starter = await measure(await openBlip(starterFolder), [0, 4, 8, 12, 14, 16], {
    rounds: options.rounds * 4,
    batch: 8,
  })
  printResult('turbo', {
    speedup_r40: base.speedups.get(40),
    overhead_r0: 1 / base.speedups.get(0)! - 1,
    speedup_r16: base.speedups.get(16),
    starter_speedup_r14: starter.speedups.get(14),
    starter_overhead_r0: 1 / starter.speedups.get(0)! - 1,
    batch: options.batch,
    rounds: options.rounds,
  })
}

async function measure(
  model: CaptionModel,
  rs: number[],
  { rounds, batch }: { rounds: number; batch: number },
) {
  const encoder = (mode: GraphOptions['mode']) =>
    openSession(model.buildGraph({ mode, decoder: false }), model.folder)
  const plain = await encoder('none')
  const turbo = await encoder('turbo')
  const pixels = smoothPixels(batch, model.image)
  const run = (session: ort.InferenceSession, r: number) => () => {
    const perLayerR = perLayer(r, model.layers)
    return session.run(encoderInputs(model, pixels, { r: perLayerR, weight: semanticWeights(perLayerR) }))
  }
  const cases = {
    none: run(plain, 0),
    ...Object.fromEntries(rs.map((r) => [`r${r}`, run(turbo, r)])),
  } as Record<string, () => Promise<unknown>>
  const times = await interleave(cases, rounds)
  await plain.release()
  await turbo.release()

  console.log(`encoder of ${model.id}, batch ${batch}, ${rounds} rounds: median ms, speed-up over no Turbo`)
  console.log(`  ${'none'.padEnd(6)}${median(times.none!).toFixed(0).padStart(8)}`)
  const speedups = new Map(rs.map((r) => [r, speedup(times.none!, times[`r${r}`]!)]))
  for (const [r, gain] of speedups)
    console.log(
      `  ${`r ${r}`.padEnd(6)}${median(times[`r${r}`]!).toFixed(0).padStart(8)}${gain.toFixed(3).padStart(9)}`,
    )
  return { speedups }
}

function encoderInputs(model: CaptionModel, pixels: Uint8Array, { r, weight }: Schedule) {
  const { height, width } = model.image
  const batch = pixels.length / (height * width * 3)
  return {
    pixels: new ort.Tensor('uint8', pixels, [batch, height, width, 3]),
    prompt: new ort.Tensor('int64', new BigInt64Array(batch).fill(BigInt(model.startId)), [batch, 1]),
    r: new ort.Tensor('int64', BigInt64Array.from(r, BigInt), [model.layers]),
    weight: new ort.Tensor('float32', Float32Array.from(weight), [model.layers]),
  }
}
