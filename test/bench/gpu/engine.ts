import type { DeviceTarget } from '../../../processor/engine/device-target.ts'
import { sessionOptions } from '../../../processor/engine/session-options.ts'
import type { BlipModel } from '../../../processor/models/blip.ts'
import type { GraphOptions } from '../../../processor/models/model.ts'
import type { SessionOptions } from '../../../processor/onnx/session.ts'
import { perLayer, type Schedule, semanticWeights } from '../../../processor/turbo/schedule.ts'
import { interleave, median } from '../measure.ts'
import { repeatedPixels } from '../pixels.ts'
import { type BareSession, openBareSession } from '../session.ts'
import type { GpuOptions } from './options.ts'
import { type ProfileSummary, profiled, profileLines } from './profile.ts'

/** A device, and how sessions are opened on it. */
export interface Target {
  device: DeviceTarget
  float16: boolean
  gpu: boolean
}

/** Medians of a batch size, ms a batch. */
export interface EngineRow {
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

/** Times the bare engine by batch size and level. `short` is the model with captions of one id. */
export async function benchEngine(
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
export async function profileModel(
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
