/** Turbine's engine as a process: `node turbine-process.ts '{"folder": ..., "pictures": ..., "threads": 2}'`. */
import { readFile } from 'node:fs/promises'
import { env } from 'onnxruntime-node'
import { openBlip } from '../../../processor/models/blip.ts'
import { perLayer, semanticWeights } from '../../../processor/turbo/schedule.ts'
import { openBareSession } from '../session.ts'
import { answerLines } from './answer.ts'
import { graphOf, type TurbinePrecision } from './precision.ts'

export interface TurbineProcessOptions {
  folder: string
  pictures: string
  threads: number
  precision: TurbinePrecision
  /** Leaves the text decoder out. */
  part?: 'encoder'
}

const { folder, pictures, threads, precision, part } = JSON.parse(process.argv[2]!) as TurbineProcessOptions
const model = await openBlip(folder)
const pixels = new Uint8Array(await readFile(pictures))
const size = model.picture.height * model.picture.width * 3
const graph = { ...graphOf(precision), decoder: part !== 'encoder' }
const session = await openBareSession(model, graph, { intraOpNumThreads: threads, interOpNumThreads: 1 })

await answerLines({ onnxruntime: env.versions.node ?? env.versions.common }, async ({ batch, r = 0 }) => {
  const list = perLayer(r, model.encoder.layers)
  const [given, schedule] = [pixels.subarray(0, batch * size), { r: list, weight: semanticWeights(list) }]
  if (part === 'encoder') {
    await session.run(given, schedule)
    return []
  }
  // Without the start id, as others give them.
  return (await session.caption(given, schedule)).map((ids) => ids.slice(1))
})
await session.close()
