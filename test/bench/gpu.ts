import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DeviceTarget } from '../../processor/engine/device-target.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { sessionOptions } from '../../processor/engine/session-options.ts'
import { type BlipModel, openBlip } from '../../processor/models/blip.ts'
import type { GraphOptions } from '../../processor/models/model.ts'
import { perLayer, type Schedule, semanticWeights } from '../../processor/turbo/schedule.ts'
import { benchFolder } from './folders.ts'
import { interleave, median, printResult } from './measure.ts'
import { smoothPixels } from './pixels.ts'
import { type BlipSizes, blipBase, blipLarge, randomBlip } from './random-blip.ts'
import { type BareSession, openBareSession } from './session.ts'

const small: BlipSizes = {
  ...blipBase,
  side: 128,
  width: 192,
  layers: 4,
  heads: 3,
  textLayers: 2,
  vocabulary: 1000,
}
const sizesByName: Record<string, BlipSizes> = { small, base: blipBase, large: blipLarge }

/** Ids that every caption gets: random weights never end one. */
const ids = 19

export interface GpuOptions {
  device: string
  /** `small`, `base`, `large`. */
  sizes: string[]
  batches: number[]
  rounds: number
  /** Tokens merged in every layer. */
  r: number
  /** Float32 on a CPU; float16 has no fast kernels there. */
  float16?: boolean
}

/**
 * Whole captioning with random weights on one device: a graph without Turbo, the graph with schedules as inputs, and
 * the graphs built for one schedule; images per second by batch size, and the encoder's part of the time (a caption of
 * one id against one of many).
 */
export async function benchGpu(options: GpuOptions): Promise<void> {
  const [device] = (await resolveDevices(options.device)).devices as [DeviceTarget]
  const float16 = options.float16 ?? device.provider !== 'cpu'
  for (const name of options.sizes) await benchSize(name, device, { ...options, float16 })
}

async function benchSize(name: string, device: DeviceTarget, options: GpuOptions): Promise<void> {
  const { batches, rounds, r, float16 } = options
  const folder = await randomBlip(benchFolder, sizesByName[name]!)
  const model = await openWithIds(folder, ids)
  const short = await openWithIds(folder, 1)
  const { layers } = model.encoder
  const none: Schedule = { r: perLayer(0, layers), weight: perLayer(0, layers) }
  const some: Schedule = { r: perLayer(r, layers), weight: semanticWeights(perLayer(r, layers)) }
  const gpu = device.provider !== 'cpu'
  const open = async (of: BlipModel, graph: GraphOptions) => {
    const start = performance.now()
    const session = await openBareSession(of, { float16, gpu, ...graph }, sessionOptions(device))
    console.log(`opened ${JSON.stringify(graph)} in ${(performance.now() - start).toFixed(0)} ms`)
    return session
  }
  const sessions = {
    none: await open(model, { r: none.r }),
    none1: await open(short, { r: none.r }),
    inputs: await open(model, {}),
    fixed: await open(model, { r: some.r }),
    fixed1: await open(short, { r: some.r }),
  }
  console.log(
    `${name} sizes on ${device.name}, ${float16 ? 'float16' : 'float32'}: median ms a batch, images/s`,
  )
  const rows: Record<string, unknown>[] = []
  for (const batch of batches) {
    const pixels = repeated(smoothPixels(Math.min(batch, 8), model.picture), batch)
    const run = (session: BareSession, schedule: Schedule) => () => session.run(pixels, schedule)
    const times = await interleave(
      {
        none: run(sessions.none, none),
        none_one_id: run(sessions.none1, none),
        r0: run(sessions.inputs, none),
        inputs: run(sessions.inputs, some),
        fixed: run(sessions.fixed, some),
        fixed_one_id: run(sessions.fixed1, some),
      },
      rounds,
    )
    const ms = Object.fromEntries(Object.entries(times).map(([key, list]) => [key, median(list)])) as Record<
      string,
      number
    >
    const cells = Object.entries(ms).map(
      ([key, value]) => `${key} ${value.toFixed(1)} (${((1000 * batch) / value).toFixed(0)}/s)`,
    )
    console.log(`  batch ${String(batch).padStart(3)}: ${cells.join('  ')}`)
    rows.push({ batch, ...ms })
  }
  for (const session of Object.values(sessions)) await session.close()
  printResult('gpu', { device: device.name, sizes: name, r, rounds, milliseconds: rows })
}

/** A few pictures again and again, until there are `count`. */
function repeated(pictures: Uint8Array, count: number): Uint8Array {
  const size = pictures.length / Math.min(count, 8)
  const all = new Uint8Array(count * size)
  for (let at = 0; at < all.length; at += pictures.length)
    all.set(pictures.subarray(0, Math.min(pictures.length, all.length - at)), at)
  return all
}

/** The model with captions of just so many ids. */
async function openWithIds(folder: string, count: number): Promise<BlipModel> {
  const file = join(folder, 'generation_config.json')
  await writeFile(file, JSON.stringify({ max_new_tokens: count }))
  const model = await openBlip(folder)
  // Other benchmarks have the same folder.
  await rm(file)
  return model
}
