import { captionIds, type RunPicture, type RunRow } from '../../engine/batch.ts'
import type { DeviceResult } from '../../engine/device.ts'
import { DevicePool } from '../../engine/device-pool.ts'
import type { DeviceTarget } from '../../engine/device-target.ts'
import { graphOf, type Precision } from '../../engine/precision.ts'
import { readPicture } from '../../engine/read-picture.ts'
import type { RawOutput } from '../../engine/runners/runner.ts'
import type { CaptionModel, GraphOptions } from '../../models/model.ts'
import { unitOf } from '../../models/pictures.ts'
import { askedByDefault, capabilitiesOf } from '../../pipeline/capabilities.ts'
import { taskRow } from '../../pipeline/task-row.ts'
import { perLayer, semanticWeights } from '../../turbo/schedule.ts'
import { UsageError } from '../errors.ts'
import type { Inspector, Trace, TraceOptions } from './command.ts'
import { joinPatches } from './patches.ts'

export interface InspectorOptions {
  model: CaptionModel
  device: DeviceTarget
  intraOpThreads?: number
  /** Default: float32. */
  precision?: Precision
  /** What the model is asked; default: nothing. */
  prompt?: string
}

/**
 * Opens a model for inspection, one image at a time.
 * @throws ModelFolderError, DeviceOpenError, ConfigError for a prompt that the model cannot follow
 */
export async function openInspector(options: InspectorOptions): Promise<Inspector> {
  const { model, device, intraOpThreads, precision = 'float32', prompt: asked } = options
  const request = askedByDefault({ id: model.id, can: capabilitiesOf(model) }, asked)
  const pools = new Map<string, Promise<DevicePool>>()
  // Mode and threshold are fixed in the graph; ToMe is Turbo with a weight of 0.
  const poolFor = (graph: GraphOptions) => {
    const key = JSON.stringify(graph)
    const pool =
      pools.get(key) ??
      DevicePool.start({
        model,
        devices: [device],
        intraOpThreads,
        buckets: [1],
        graph: { ...graph, ...graphOf(precision) },
      })
    pools.set(key, pool)
    return pool
  }

  return {
    note: model.unpruned && `Turbo has no place in ${model.id} (${model.unpruned}): nothing merges.`,
    async trace(image: Uint8Array, options: TraceOptions): Promise<Trace> {
      const mode = options.mode === 'tome' ? 'turbo' : options.mode
      assertMode(model, mode)
      const pool = await poolFor({ trace: true, mode, threshold: options.threshold })
      const picture = await readPicture(image, model.picture)
      // Nothing is drawn by lot.
      const row = await taskRow(model, { request, settings: { temperature: 0 } }, [picture])
      const result = await pool.devices[0]!.run({ rows: [row], schedule: scheduleOf(options, model) })
      return {
        ...pictureOf(model, picture),
        ...tokensOf(model, picture, result),
        ...textOf(model, row, result),
      }
    },
    async close() {
      for (const pool of pools.values()) await (await pool).close()
    },
  }
}

/** @throws UsageError for a score that only Turbo's own graphs have */
function assertMode({ id, runner }: CaptionModel, mode: GraphOptions['mode']): void {
  if (runner.kind !== 'captioner' && mode !== 'turbo')
    throw new UsageError(`--mode ${mode} is for BLIP; ${id} has turbo and tome.`)
}

function scheduleOf({ r, mode, ...semantic }: TraceOptions, { encoder }: CaptionModel) {
  // Without a place for Turbo there are no layers to give it to.
  const everyLayer = encoder.layers === 0 ? [] : perLayer(r, encoder.layers)
  const weight = mode === 'tome' ? everyLayer.map(() => 0) : semanticWeights(everyLayer, semantic)
  return { r: everyLayer, weight }
}

type PictureTrace = Pick<Trace, 'pixels' | 'height' | 'width' | 'patch' | 'tiles'>

/** What the encoder saw: patches of one picture are put together again. */
function pictureOf({ picture: rule, patch }: CaptionModel, { pixels, shape }: RunPicture): PictureTrace {
  if (rule.kind === 'patches') return joinPatches(pixels, { ...rule, ...shape })
  const [height, width] = unitOf(rule)
  const { count, rows, cols } = shape
  return { pixels, height, width, patch, ...(rule.kind === 'tiles' && { tiles: { count, rows, cols } }) }
}

type TokenTrace = Pick<Trace, 'tokens' | 'scores' | 'sizes' | 'source'>

function tokensOf(
  { picture: rule, encoder }: CaptionModel,
  { shape }: RunPicture,
  { rows, outputs = {} }: DeviceResult,
): TokenTrace {
  const unmerged = BigInt64Array.from({ length: shape.count * encoder.tokens }, (_, token) =>
    BigInt(rule.kind === 'patches' ? token : token % encoder.tokens),
  )
  const source = (outputs.source?.data as BigInt64Array | undefined) ?? unmerged
  const pictures = rule.kind === 'patches' ? 1 : shape.count
  const sizes = (outputs.sizes?.data as Float32Array | undefined) ?? sizesOf(source, pictures)
  const { scores } = rows[0]!
  return {
    ...(scores ? { scores } : outputs.tokens && { tokens: matrixOf(outputs.tokens) }),
    sizes,
    source,
  }
}

/** Rows of the last axis. */
const matrixOf = ({ data, dims }: RawOutput) => ({ data: data as Float32Array, dim: dims.at(-1)! })

/** How many tokens each final one holds, picture by picture: all pictures of a run keep equally many. */
export function sizesOf(source: BigInt64Array, pictures: number): Float32Array {
  const each = source.length / pictures
  const kept = source.reduce((most, token) => Math.max(most, Number(token) + 1), 0)
  const sizes = new Float32Array(pictures * kept)
  source.forEach((token, index) => {
    sizes[Math.floor(index / each) * kept + Number(token)]!++
  })
  return sizes
}

function textOf(
  model: CaptionModel,
  { prompt }: RunRow,
  { rows }: DeviceResult,
): Pick<Trace, 'ids' | 'caption'> {
  const [{ ids: made, scores }] = rows as [DeviceResult['rows'][number]]
  const ids = captionIds(prompt, { ids: made })
  const caption = (scores && model.describe?.(scores).caption) ?? model.decode(ids)
  return { ids: BigInt64Array.from(ids, BigInt), caption }
}
