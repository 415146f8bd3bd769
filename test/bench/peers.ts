import { writeFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { largeFolder } from './families/folders.ts'
import { tinyFolder } from './families/parity.ts'
import { benchFolder } from './folders.ts'
import { median, printResult } from './measure.ts'
import {
  type Compared,
  chooseSides,
  closeAll,
  compare,
  differing,
  fastest,
  openAll,
  perImage,
  ratesOf,
  ratioOf,
  type Turn,
} from './peers/compare.ts'
import { fileOf, openPython } from './peers/environment.ts'
import { parseMachines, pricesOf } from './peers/price.ts'
import { startPeer } from './peers/process.ts'
import { captioners, type Given, type Side, turbineEncoders } from './peers/sides.ts'
import { smoothPixels } from './pixels.ts'
import { type BlipSizes, blipSizes, randomBlip, withIds } from './random-blip.ts'

export interface PeersOptions {
  rounds: number
  /** The first is the one of the ratios. */
  batches: number[]
  /** Ids of each caption. */
  ids: number
  /** Tokens merged in every layer where Turbo is on. */
  r: number
  /** Sides to compare, by name, or `all`. */
  sides: string[]
  /** One that has the packages, or `own`: the benchmark's environment. */
  python: string
  /** Makes the benchmark's environment first. */
  install: boolean
  /** Machines whose cost per million images is printed: `none`, `list`, or NAME=DOLLARS/CORES,... */
  price: string
  /** Of the model: `small`, `base`, `large`. */
  size: string
  /** Takes the tiny ViT-GPT2, whose times say nothing. */
  tiny?: boolean
}

/**
 * Turbine and what else captions with the same model folder, each in a process of its own on all cores: images/s, processor time and
 * memory, in rounds in which every side has its turn.
 */
export async function benchPeers(options: PeersOptions): Promise<void> {
  const machines = parseMachines(options.price)
  const { size, ids, batches, rounds, r } = options
  const sizes = blipSizes[size]!
  const folder = await withIds(await randomBlip(benchFolder, sizes), ids)
  const given: Given = {
    ...{ folder, ids, threads: availableParallelism() },
    pictures: await writePictures(sizes, Math.max(...batches)),
    python: await openPython(options),
  }
  const cpu = cpus()[0]?.model ?? 'unknown'
  console.log(`${cpu}, ${given.threads} threads for every side; captions of ${ids} ids`)
  const skipped: Record<string, string> = {}
  const { whole, alone } = await compareCaptioners(given, options, skipped)
  const family = await compareOnFamily(given, options, skipped)

  const [batch] = batches as [number]
  const ratio = (over?: string, side?: string) => ratioOf(whole.answers[batch]!, over, side)
  const rates = ratesOf(whole.answers)
  const prices = pricesOf(
    machines,
    Object.fromEntries(Object.entries(rates).map(([side, list]) => [side, list[batch]!])),
    given.threads,
  )
  for (const [machine, list] of Object.entries(prices))
    console.log(
      `${machine}, dollars for a million images: ${Object.entries(list)
        .map(([side, dollars]) => `${side} ${dollars.toFixed(0)}`)
        .join(', ')}`,
    )
  for (const [side, why] of Object.entries(skipped)) console.log(`${side}: skipped, ${why}`)
  printResult('peers', {
    over_torch_r0: ratio('torch', 'turbine'),
    over_torch_turbo: ratio('torch', 'turbine_turbo'),
    over_torch_int8_turbo: ratio('torch', 'turbine_int8_turbo'),
    over_openvino_best: ratio(
      fastest(rates, batch, ['openvino', 'openvino_bfloat16', 'openvino_int8']),
      fastest(rates, batch, ['turbine', 'turbine_int8']),
    ),
    over_onnxruntime_steps: ratio('onnxruntime', 'turbine'),
    over_transformers_js: ratioOf(family.answers[batch]!, 'transformers_js', 'turbine'),
    images_per_second: rates,
    cpu_ms_per_image: perImage(whole.answers, ({ cpu_ms }) => cpu_ms),
    peak_rss_mb: whole.peaks,
    encoder_ms_per_batch: Object.fromEntries(
      Object.entries(alone.answers[batch]!).map(([side, list]) => [side, median(list.map(({ ms }) => ms))]),
    ),
    vit_gpt2: {
      images_per_second: ratesOf(family.answers),
      cpu_ms_per_image: perImage(family.answers, ({ cpu_ms }) => cpu_ms),
      peak_rss_mb: family.peaks,
      tiny: family.tiny,
    },
    captions_that_differ: differing(whole.answers[batch]!, 'turbine'),
    dollars_per_million: prices,
    versions: { ...whole.versions, ...family.versions },
    skipped,
    cpu,
    threads: given.threads,
    batches,
    ids,
    r,
    size,
    rounds,
  })
}

async function compareCaptioners(
  given: Given,
  { sides, batches, rounds, r }: PeersOptions,
  skipped: Record<string, string>,
): Promise<{ whole: Compared; alone: Compared }> {
  const peers = await openAll(chooseSides(captioners, sides), given, skipped)
  const encoders = await openAll(chooseSides(turbineEncoders, sides), given, {})
  const isTurbine = (side: string) => side.startsWith('turbine')
  try {
    // One process captions with Turbo and without.
    const captions = (batch: number) =>
      Object.keys(peers).flatMap((side): Turn[] => [
        [side, side, { batch }],
        ...(isTurbine(side) ? [[`${side}_turbo`, side, { batch, r }] as Turn] : []),
      ])
    const whole = await compare('captions', peers, captions, { batches, rounds, skipped })
    const others = Object.entries(peers).filter(([side]) => !isTurbine(side))
    const encoder = (batch: number) =>
      [...Object.keys(encoders), ...others.map(([side]) => side)].map(
        (side): Turn => [side, side, { batch, part: 'encoder' }],
      )
    const alone = await compare('encoder alone', { ...Object.fromEntries(others), ...encoders }, encoder, {
      ...{ batches: batches.slice(0, 1), rounds, skipped },
    })
    return { whole, alone }
  } finally {
    await closeAll({ ...peers })
    await closeAll(encoders)
  }
}

/** Where transformers.js takes part: it does not know BLIP. */
async function compareOnFamily(
  given: Given,
  { sides, batches, rounds, python, tiny }: PeersOptions,
  skipped: Record<string, string>,
): Promise<Compared & { tiny: boolean }> {
  const { threads, ids } = given
  const large = tiny
    ? { why: 'as asked' }
    : await largeFolder('vit-gpt2', python === 'own' ? 'python3' : python)
  const folder = 'folder' in large ? large.folder : tinyFolder('vit-gpt2')
  if ('why' in large && !tiny) console.log(`ViT-GPT2: times of a tiny model, which say nothing: ${large.why}`)
  const side = (name: 'loop' | 'package'): Side => ({
    open: () => {
      const process_ = { folder, side: name, threads, most: Math.max(...batches), ids }
      return startPeer(process.execPath, [fileOf('family-process.ts'), JSON.stringify(process_)])
    },
  })
  const chosen = chooseSides({ turbine: side('loop'), transformers_js: side('package') }, sides)
  const failed: Record<string, string> = {}
  const peers = await openAll(chosen, given, failed)
  const turns = (batch: number) => Object.keys(peers).map((name): Turn => [name, name, { batch }])
  try {
    const compared = await compare('ViT-GPT2', peers, turns, { batches, rounds, skipped: failed })
    return { ...compared, tiny: !('folder' in large) }
  } finally {
    await closeAll(peers)
    for (const [name, why] of Object.entries(failed)) skipped[`${name}, ViT-GPT2`] = why
  }
}

/** A file of raw pictures of the model's size. */
async function writePictures({ side }: BlipSizes, count: number): Promise<string> {
  const file = join(benchFolder, `pictures-${side}-${count}`)
  await writeFile(file, smoothPixels(count, { height: side, width: side }))
  return file
}
