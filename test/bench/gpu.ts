import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { DeviceTarget } from '../../processor/engine/device-target.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { sessionOptions } from '../../processor/engine/session-options.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import type { GraphOptions } from '../../processor/models/model.ts'
import type { SessionOptions } from '../../processor/onnx/session.ts'
import { perLayer, type Schedule, semanticWeights } from '../../processor/turbo/schedule.ts'
import { largeFolder } from './families/folders.ts'
import { tinyFolder } from './families/parity.ts'
import { openSubject } from './families/subject.ts'
import { benchFolder } from './folders.ts'
import { photoFolder } from './gpu/photos.ts'
import { pipelineRate } from './gpu/pipeline.ts'
import { type ProfileSummary, profiled, profileLines } from './gpu/profile.ts'
import { interleave, median, printResult } from './measure.ts'
import { openPython } from './peers/environment.ts'
import type { PeerRequest } from './peers/process.ts'
import { pythonSide } from './peers/sides.ts'
import { repeatedPixels } from './pixels.ts'
import { blipSizes, randomBlip, withIds } from './random-blip.ts'
import { type BareSession, openBareSession } from './session.ts'

export interface GpuOptions {
  device: string
  /** `small`, `base`, `large`. */
  sizes: string[]
  batches: number[]
  rounds: number
  /** Tokens merged in every layer, beside the default levels. */
  r: number
  /** Ids of each caption. */
  ids: number
  /** What is measured: `engine`, `torch`, `pipeline`, `families`. */
  parts: string[]
  /** Times graphs that are built for one level and one batch size too. */
  fixed: boolean
  /** Prints where the nodes of a run went. */
  profile: boolean
  /** Files of the folder that the pipeline is fed from. */
  photos: number
  families: string[]
  /** One that has PyTorch, or `own`: the environment of the peers. */
  python: string
  /** Takes the families' tiny models, whose times say nothing. */
  tiny?: boolean
  /** Float32 on a CPU; float16 has no fast kernels there. */
  float16?: boolean
}

/** A device, and how sessions are opened on it. */
interface Target {
  device: DeviceTarget
  float16: boolean
  gpu: boolean
}

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

/** Medians of a batch size, ms a batch. */
interface EngineRow {
  batch: number
  /** A graph without Turbo, to all ids and to one: the rest is the decoder's. */
  unpruned: number
  unpruned_one_id: number
  /** Schedules as inputs: each default level, level 0 first. */
  levels: number[]
  /** The graph for r in every layer, to all ids and to one. */
  turbo: number
  turbo_one_id: number
  /** Graphs for one level and this batch size. */
  fixed_levels?: number[]
  images_per_second: { unpruned: number; turbo: number }
  /** Share of the unpruned time that is the decoder's. */
  decoder_share: number
}

async function benchEngine(
  { model, short }: { model: BlipModel; short: BlipModel },
  target: Target,
  { batches, rounds, r, fixed }: GpuOptions,
): Promise<EngineRow[]> {
  const { levels } = model
  const some = perLayer(r, model.encoder.layers)
  const open = (of: BlipModel, graph: GraphOptions) => openOn(target, of, graph)
  const unpruned = { r: levels[0]!.r }
  const sessions = {
    unpruned: await open(model, unpruned),
    unpruned_one_id: await open(short, unpruned),
    inputs: await open(model, {}),
    turbo: await open(model, { r: some }),
    turbo_one_id: await open(short, { r: some }),
  }
  console.log(
    `levels: tokens out ${levels.map(({ tokensOut }) => tokensOut).join(', ')}; r = ${r}; median ms a batch, images/s`,
  )
  const rows: EngineRow[] = []
  for (const batch of batches) {
    const pixels = repeatedPixels(batch, model.picture)
    const run = (session: BareSession, schedule: Schedule) => () => session.run(pixels, schedule)
    const schedule = { r: some, weight: semanticWeights(some) }
    const ofLevels = fixed ? await Promise.all(levels.map((level) => open(model, { r: level.r, batch }))) : []
    const times = await interleave(
      {
        unpruned: run(sessions.unpruned, levels[0]!),
        unpruned_one_id: run(sessions.unpruned_one_id, levels[0]!),
        turbo: run(sessions.turbo, schedule),
        turbo_one_id: run(sessions.turbo_one_id, schedule),
        ...Object.fromEntries(levels.map((level, at) => [`level ${at}`, run(sessions.inputs, level)])),
        ...Object.fromEntries(ofLevels.map((session, at) => [`fixed ${at}`, run(session, levels[at]!)])),
      } as Record<string, () => Promise<unknown>>,
      rounds,
    )
    for (const session of ofLevels) await session.close()
    const ms = (name: string) => median(times[name]!)
    const rate = (name: string) => (1000 * batch) / ms(name)
    const row: EngineRow = {
      batch,
      unpruned: ms('unpruned'),
      unpruned_one_id: ms('unpruned_one_id'),
      levels: levels.map((_, at) => ms(`level ${at}`)),
      turbo: ms('turbo'),
      turbo_one_id: ms('turbo_one_id'),
      ...(fixed && { fixed_levels: levels.map((_, at) => ms(`fixed ${at}`)) }),
      images_per_second: { unpruned: rate('unpruned'), turbo: rate('turbo') },
      decoder_share: 1 - ms('unpruned_one_id') / ms('unpruned'),
    }
    rows.push(row)
    const cells = Object.keys(times).map(
      (name) => `${name} ${ms(name).toFixed(1)} (${rate(name).toFixed(0)}/s)`,
    )
    console.log(`  batch ${String(batch).padStart(3)}: ${cells.join('  ')}`)
  }
  for (const session of Object.values(sessions)) await session.close()
  return rows
}

const openOn = (
  { device, float16, gpu }: Target,
  model: BlipModel,
  graph: GraphOptions,
  more: SessionOptions = {},
): Promise<BareSession> =>
  openBareSession(model, { float16, gpu, ...graph }, { ...sessionOptions(device), ...more })

/** Where the nodes of a run go: without Turbo, with schedules as inputs, and built for one schedule and batch size. */
async function profileModel(
  model: BlipModel,
  target: Target,
  { batch, r }: { batch: number; r: number },
): Promise<Record<string, ProfileSummary>> {
  const pixels = repeatedPixels(batch, model.picture)
  const some = perLayer(r, model.encoder.layers)
  const schedule = { r: some, weight: semanticWeights(some) }
  const graphs: Record<string, GraphOptions> = {
    unpruned: { mode: 'none' },
    inputs: {},
    fixed: { r: some, batch },
  }
  const result: Record<string, ProfileSummary> = {}
  for (const [name, graph] of Object.entries(graphs)) {
    result[name] = await profiled(async (more) => {
      const session = await openOn(target, model, graph, more)
      return { ...session, run: () => session.run(pixels, schedule) }
    })
    for (const line of profileLines(`${name}, batch ${batch}`, result[name])) console.log(line)
  }
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

interface TorchResult {
  /** From pixels on the device to ids, by batch size. */
  images_per_second: Record<number, number>
  /** From the files of the folder. */
  photos_per_second: number
  versions: Record<string, string>
}

/** PyTorch on the same model folder and photos, as it is and compiled; why it was not measured. */
async function benchTorch(
  model: BlipModel,
  { photos, target, options }: { photos: string; target: Target; options: GpuOptions },
): Promise<Record<string, TorchResult | string>> {
  const { batches, rounds, ids } = options
  const pictures = join(benchFolder, `repeated-${model.picture.width}`)
  await writeFile(pictures, repeatedPixels(Math.max(...batches), model.picture))
  const python = await openPython({ python: options.python, install: false })
  const given = { folder: model.folder, pictures, threads: availableParallelism(), ids, python }
  const side = { engine: 'torch', precision: target.float16 ? 'float16' : 'float32' } as const
  const device = target.gpu ? target.device.name : 'cpu'
  const result: Record<string, TorchResult | string> = {}
  for (const compile of [false, true]) {
    const name = compile ? 'compiled' : 'eager'
    try {
      const peer = await pythonSide({ ...side, device, compile }).open(given)
      const rateOf = async (images: number, request: PeerRequest, times: number) => {
        const ms: number[] = []
        // The first run loads and compiles.
        for (let round = -1; round < times; round++) {
          const answer = await peer.ask(request)
          if (round >= 0) ms.push(answer.ms)
        }
        return (1000 * images) / median(ms)
      }
      const rates: Record<number, number> = {}
      for (const batch of batches) rates[batch] = await rateOf(batch, { batch }, rounds)
      const photosRate = await rateOf(options.photos, { batch: Math.max(...batches), photos }, 1)
      await peer.close()
      result[name] = { images_per_second: rates, photos_per_second: photosRate, versions: peer.versions }
      const cells = Object.entries(rates).map(([batch, each]) => `batch ${batch} ${each.toFixed(1)}/s`)
      console.log(`  PyTorch ${name}: ${cells.join('  ')}  photos ${photosRate.toFixed(1)}/s`)
    } catch (error) {
      result[name] = (error as Error).message
      console.log(`  PyTorch ${name}: skipped, ${result[name]}`)
    }
  }
  return result
}

/** Images/s of the generating loop of exported families, by batch size, unpruned and at the highest level. */
async function benchLoops(
  { device, float16, gpu }: Target,
  { families, batches, rounds, ids, python, tiny }: GpuOptions,
): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {}
  for (const name of families) {
    const large = tiny ? { why: 'as asked' } : await largeFolder(name, python === 'own' ? 'python3' : python)
    if ('why' in large && !tiny)
      console.log(`${name}: times of a tiny model, which say nothing: ${large.why}`)
    const subject = await openSubject('folder' in large ? large.folder : tinyFolder(name), {
      ...{ threads: availableParallelism(), most: Math.max(...batches), ids, sides: ['loop'] },
      session: sessionOptions(device),
      graph: { float16, gpu },
    })
    const highest = subject.model.levels.length - 1
    const rows: Record<number, { unpruned: number; highest: number }> = {}
    for (const batch of batches) {
      const times = await interleave(
        { unpruned: () => subject.loop(batch, 0), highest: () => subject.loop(batch, highest) },
        rounds,
      )
      const rate = (list: number[]) => (1000 * batch) / median(list)
      rows[batch] = { unpruned: rate(times.unpruned), highest: rate(times.highest) }
      console.log(
        `  ${name}, batch ${batch}: ${rows[batch].unpruned.toFixed(1)} images/s, ${rows[batch].highest.toFixed(1)} at level ${highest}`,
      )
    }
    await subject.close()
    results[name] = { images_per_second: rows, tiny: !('folder' in large) }
  }
  return results
}
