import { DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { PixelBuffers } from '../engine/pixel-buffers.ts'
import { preprocess } from '../engine/preprocess.ts'
import { loadTokenizer } from '../engine/tokenizer.ts'
import type { CaptionModel, GraphOptions } from '../models/model.ts'
import { perLayer, semanticWeights } from '../turbo/schedule.ts'
import type { Inspector, Trace, TraceOptions } from './inspect.ts'

export interface InspectorOptions {
  model: CaptionModel
  device: DeviceTarget
  intraOpThreads?: number
}

/** Opens a model for inspection, one image at a time. @throws ModelFolderError, DeviceOpenError */
export async function openInspector({ model, device, intraOpThreads }: InspectorOptions): Promise<Inspector> {
  const tokenizer = await loadTokenizer(model.folder)
  const slot = new PixelBuffers(model.image, 1).take()
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
      await preprocess(image, model.image, slot.row(0))
      const prompt = [model.startId, ...tokenizer.encodePrompt(options.prompt ?? '')]
      const run = { pixels: slot.pixels, count: 1, prompt: [prompt], schedule: scheduleOf(options, model) }
      const { ids, outputs } = await pool.devices[0]!.run(run)
      return {
        pixels: slot.row(0).slice(),
        height: model.image.height,
        width: model.image.width,
        patch: model.patch,
        tokens: outputs.tokens!.data as Float32Array,
        dim: model.encoder.width,
        sizes: outputs.sizes!.data as Float32Array,
        source: outputs.source!.data as BigInt64Array,
        ids: BigInt64Array.from(ids[0]!, BigInt),
        caption: tokenizer.decode(ids[0]!),
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
