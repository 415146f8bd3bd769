import type { DeviceTarget } from '../../processor/engine/device-target.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import { benchFolder } from './folders.ts'
import { benchEngine, type EngineRow, profileModel, type Target } from './gpu/engine.ts'
import { benchLoops } from './gpu/loops.ts'
import type { GpuOptions } from './gpu/options.ts'
import { photoFolder } from './gpu/photos.ts'
import { pipelineRate } from './gpu/pipeline.ts'
import type { ProfileSummary } from './gpu/profile.ts'
import { benchTorch, type TorchResult } from './gpu/torch.ts'
import { printResult } from './measure.ts'
import { blipSizes, randomBlip, withIds } from './random-blip.ts'

/**
 * One device, fed: BLIP sizes with random weights in the bare engine by batch size and level, `turbine caption` over a folder of
 * photos, PyTorch on the same folders, and the loops of exported families.
 */
export async function benchGpu(options: GpuOptions): Promise<void> {
  const [device] = (await resolveDevices(options.device)).devices as [DeviceTarget]
  const gpu = device.provider !== 'cpu'
  const target = { device, gpu, float16: options.float16 ?? gpu }
  const { sizes, r, rounds, parts, ids } = options
  const results: Record<string, SizeResult> = {}
  for (const size of sizes) results[size] = await benchSize(size, target, options)
  const families = parts.includes('families') ? await benchLoops(target, options) : {}
  const precision = target.float16 ? 'float16' : 'float32'
  printResult('gpu', {
    ...headline(results[sizes[0]!]!, Math.max(...options.batches)),
    ...{ device: device.name, precision, sizes: results, families, ids, r, rounds },
  })
}

/** The ratios that matter, at the largest batch; null where one side was not measured. */
function headline({ engine, pipeline, torch }: SizeResult, batch: number) {
  const row = engine.find((each) => each.batch === batch)
  const ms = ({ levels, fixed_levels }: EngineRow) =>
    levels.map((inputs, at) => Math.min(inputs, fixed_levels?.[at] ?? inputs))
  const bestTorch = Math.max(
    0,
    ...Object.values(torch ?? {}).map((each) =>
      typeof each === 'string' ? 0 : each.images_per_second[batch]!,
    ),
  )
  const unpruned = row && Math.min(row.unpruned, ms(row)[0]!)
  return {
    turbo_speedup: row ? ms(row).map((each) => unpruned! / each) : null,
    pipeline_kept: pipeline?.kept?.unpruned ?? null,
    over_torch: unpruned && bestTorch ? (1000 * batch) / unpruned / bestTorch : null,
  }
}

interface SizeResult {
  engine: EngineRow[]
  torch?: Record<string, TorchResult | string>
  pipeline?: PipelineResult
  profile?: Record<string, ProfileSummary>
}

async function benchSize(size: string, target: Target, options: GpuOptions): Promise<SizeResult> {
  const { parts, profile, batches } = options
  const plain = await randomBlip(benchFolder, blipSizes[size]!)
  const [folder, short] = [await withIds(plain, options.ids), await withIds(plain, 1)]
  console.log(`${size} sizes on ${target.device.name}, ${target.float16 ? 'float16' : 'float32'}`)
  const models = { model: await openBlip(folder), short: await openBlip(short) }
  const most = Math.max(...batches)
  const engine = parts.includes('engine') ? await benchEngine(models, target, options) : []
  const result: SizeResult = { engine }
  if (profile) result.profile = await profileModel(models.model, target, { batch: most, r: options.r })
  const photos = ['torch', 'pipeline'].some((part) => parts.includes(part))
    ? await photoFolder(options.photos)
    : ''
  if (parts.includes('pipeline'))
    result.pipeline = await benchPipeline(models.model, { photos, target, batch: most, engine })
  if (parts.includes('torch')) result.torch = await benchTorch(models.model, { photos, target, options })
  return result
}

interface PipelineResult {
  photos: string
  batch: number
  /** Images/s from files to captions, at level 0 and at the highest. */
  images_per_second: { unpruned: number; highest: number }
  /** Of the bare engine's at the same batch size; null where that was not measured. */
  kept: { unpruned: number; highest: number } | null
}

async function benchPipeline(
  { folder: model, levels }: BlipModel,
  given: { photos: string; target: Target; batch: number; engine: EngineRow[] },
): Promise<PipelineResult> {
  const { photos, batch, engine } = given
  const device = given.target.device.name
  const highest = levels.length - 1
  const rate = (level: number) => pipelineRate({ model, photos, device, level, batch })
  const rates = { unpruned: await rate(0), highest: await rate(highest) }
  const row = engine.find((each) => each.batch === batch)
  const bare = (level: number) => (1000 * batch) / row!.levels[level]!
  const kept = row ? { unpruned: rates.unpruned / bare(0), highest: rates.highest / bare(highest) } : null
  console.log(
    `  turbine caption, batches of up to ${batch}: ${rates.unpruned.toFixed(1)} images/s, ${rates.highest.toFixed(1)} at level ${highest}; ` +
      `of the bare engine: ${kept ? `${kept.unpruned.toFixed(2)}, ${kept.highest.toFixed(2)}` : 'not measured'}`,
  )
  return { photos, batch, images_per_second: rates, kept }
}
