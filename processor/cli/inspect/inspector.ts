import { captionIds, type RunRow } from '../../engine/batch.ts'
import { DevicePool } from '../../engine/device-pool.ts'
import type { DeviceTarget } from '../../engine/device-target.ts'
import { readPicture } from '../../engine/read-picture.ts'
import type { CaptionModel, GraphOptions } from '../../models/model.ts'
import { unitOf } from '../../models/pictures.ts'
import { perLayer, semanticWeights } from '../../turbo/schedule.ts'
import type { Inspector, Trace, TraceOptions } from './command.ts'

export interface InspectorOptions {
  model: CaptionModel
  device: DeviceTarget
  intraOpThreads?: number
}

/** Opens a model for inspection, one image at a time. @throws ModelFolderError, DeviceOpenError */
export async function openInspector({ model, device, intraOpThreads }: InspectorOptions): Promise<Inspector> {
  const pools = new Map<string, Promise<DevicePool>>()
  // Mode and threshold are fixed in the graph; ToMe is Turbo with a weight of 0.
  const poolFor = (graph: GraphOptions) => {
    const key = JSON.stringify(graph)
    const pool =
      pools.get(key) ?? DevicePool.start({ model, devices: [device], intraOpThreads, buckets: [1], graph })
    pools.set(key, pool)
    return pool
  }

  return {
    async trace(image: Uint8Array, options: TraceOptions): Promise<Trace> {
      const mode = options.mode === 'tome' ? 'turbo' : options.mode
      const pool = await poolFor({ trace: true, mode, threshold: options.threshold })
      const picture = await readPicture(image, model.picture)
      const prompt = model.encode({ text: options.prompt ?? '', pictures: [picture.shape] })
      const row: RunRow = { pictures: [picture], prompt, settings: model.generation }
      const run = { rows: [row], schedule: scheduleOf(options, model) }
      const { rows, outputs = {} } = await pool.devices[0]!.run(run)
      const ids = captionIds(prompt, rows[0]!)
      const [height, width] = unitOf(model.picture)
      return {
        pixels: picture.pixels,
        height,
        width,
        patch: model.patch,
        tokens: outputs.tokens!.data as Float32Array,
        dim: model.encoder.width,
        sizes: outputs.sizes!.data as Float32Array,
        source: outputs.source!.data as BigInt64Array,
        ids: BigInt64Array.from(ids, BigInt),
        caption: model.decode(ids),
      }
    },
    async close() {
      for (const pool of pools.values()) await (await pool).close()
    },
  }
}

function scheduleOf({ r, mode, ...semantic }: TraceOptions, { encoder }: CaptionModel) {
  const everyLayer = perLayer(r, encoder.layers)
  const weight = mode === 'tome' ? everyLayer.map(() => 0) : semanticWeights(everyLayer, semantic)
  return { r: everyLayer, weight }
}
