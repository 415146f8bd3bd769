import { writeFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { largeFolder } from './families/folders.ts'
import { tinyFolder } from './families/parity.ts'
import { benchFolder } from './folders.ts'
import { median, printResult, speedup } from './measure.ts'
import { fileOf, openPython } from './peers/environment.ts'
import { parseMachines, pricesOf } from './peers/price.ts'
import { type Peer, type PeerAnswer, type PeerRequest, startPeer } from './peers/process.ts'
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
  const whole = await compareCaptioners(given, options, skipped)
  const alone = await compareEncoders(given, options, skipped)
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

/** Answers of all rounds by side, of each batch size. */
type Answers = Record<number, Record<string, PeerAnswer[]>>

interface Compared {
  answers: Answers
  /** MB. */
  peaks: Record<string, number>
  versions: Record<string, Peer['versions']>
}

async function compareCaptioners(
  given: Given,
  { sides, batches, rounds, r }: PeersOptions,
  skipped: Record<string, string>,
): Promise<Compared> {
  const chosen = chooseSides(captioners, sides)
  const peers = await openAll(chosen, given, skipped)
  // One process captions with Turbo and without.
  const requests = (batch: number) =>
    Object.keys(peers).flatMap((side): [string, string, PeerRequest][] => [
      [side, side, { batch }],
      ...(side.startsWith('turbine')
        ? [[`${side}_turbo`, side, { batch, r }] as [string, string, PeerRequest]]
        : []),
    ])
  return compare('captions', peers, requests, { batches, rounds })
}

async function compareEncoders(
  given: Given,
  { sides, batches, rounds }: PeersOptions,
  skipped: Record<string, string>,
): Promise<Compared> {
  const { turbine: _, turbine_int8: __, ...others } = captioners
  const chosen = chooseSides({ ...turbineEncoders, ...others }, sides)
  const peers = await openAll(chosen, given, { ...skipped })
  const requests = (batch: number) =>
    Object.keys(peers).map((side): [string, string, PeerRequest] => [side, side, { batch, part: 'encoder' }])
  return compare('encoder alone', peers, requests, { batches: batches.slice(0, 1), rounds })
}

/** Where transformers.js takes part: it does not know BLIP. */
async function compareOnFamily(
  { threads, ids }: Given,
  { sides, batches, rounds, python, tiny }: PeersOptions,
  skipped: Record<string, string>,
): Promise<Compared & { tiny: boolean }> {
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
  const peers = await openAll(chosen, undefined as never, skipped)
  const requests = (batch: number) =>
    Object.keys(peers).map((name): [string, string, PeerRequest] => [name, name, { batch }])
  const compared = await compare('ViT-GPT2', peers, requests, { batches, rounds })
  return { ...compared, tiny: !('folder' in large) }
}

function chooseSides(sides: Record<string, Side>, names: string[]): Record<string, Side> {
  return Object.fromEntries(
    Object.entries(sides).filter(
      ([name]) => names.length === 0 || names.includes('all') || names.includes(name),
    ),
  )
}

/** Opens them one after the other; why one is not there goes into `skipped`. */
async function openAll(
  sides: Record<string, Side>,
  given: Given,
  skipped: Record<string, string>,
): Promise<Record<string, Peer>> {
  const peers: Record<string, Peer> = {}
  for (const [name, side] of Object.entries(sides))
    try {
      peers[name] = await side.open(given)
    } catch (error) {
      skipped[name] = (error as Error).message
    }
  return peers
}

/** Pause before each turn, so that the threads of the side before have gone to sleep. */
const betweenMs = 30

/**
 * Rounds in which every case has its turn; one round before the first is not counted.
 *
 * @param cases of a batch size: name, process, request
 */
async function compare(
  title: string,
  peers: Record<string, Peer>,
  cases: (batch: number) => [string, string, PeerRequest][],
  { batches, rounds }: { batches: number[]; rounds: number },
): Promise<Compared> {
  const answers: Answers = {}
  const peaks: Record<string, number> = {}
  for (const batch of batches) {
    const all = cases(batch)
    const ofBatch: Record<string, PeerAnswer[]> = Object.fromEntries(all.map(([name]) => [name, []]))
    for (let round = -1; round < rounds; round++)
      for (const [name, side, request] of all) {
        await new Promise((resolve) => setTimeout(resolve, betweenMs))
        const answer = await peers[side]!.ask(request)
        if (round >= 0) ofBatch[name]!.push(answer)
        peaks[side] = answer.peak_rss_mb
      }
    answers[batch] = ofBatch
    printTable(`${title}, batch ${batch}`, ofBatch, batch)
  }
  for (const peer of Object.values(peers)) await peer.close()
  const versions = Object.fromEntries(Object.entries(peers).map(([name, { versions }]) => [name, versions]))
  return { answers, peaks, versions }
}

function printTable(title: string, answers: Record<string, PeerAnswer[]>, batch: number): void {
  console.log(`\n${title}`)
  const line = (cells: string[]) =>
    cells.map((cell, at) => (at ? cell.padStart(16) : cell.padEnd(22))).join('')
  console.log(line(['', 'ms a batch', 'images/s', 'CPU ms an image', 'peak MB']))
  for (const [name, list] of Object.entries(answers)) {
    const ms = median(list.map((each) => each.ms))
    const cpu = median(list.map((each) => each.cpu_ms)) / batch
    const cells = [ms, (1000 * batch) / ms, cpu, list.at(-1)!.peak_rss_mb]
    console.log(line([name, ...cells.map((cell) => (cell >= 1000 ? cell.toFixed(0) : cell.toPrecision(3)))]))
  }
}

/** A number of every side and batch size, per image, the median of the rounds. */
function perImage(
  answers: Answers,
  of: (answer: PeerAnswer) => number,
): Record<string, Record<number, number>> {
  const table: Record<string, Record<number, number>> = {}
  for (const [batch, sides] of Object.entries(answers))
    for (const [side, list] of Object.entries(sides))
      table[side] = { ...table[side], [batch]: median(list.map(of)) / Number(batch) }
  return table
}

const ratesOf = (answers: Answers) =>
  Object.fromEntries(
    Object.entries(perImage(answers, ({ ms }) => ms)).map(([side, list]) => [
      side,
      Object.fromEntries(Object.entries(list).map(([batch, ms]) => [batch, 1000 / ms])) as Record<
        number,
        number
      >,
    ]),
  )

/** How many times as fast `side` is as `over`; null where one of them is not there. */
function ratioOf(answers: Record<string, PeerAnswer[]>, over?: string, side?: string): number | null {
  const [base, other] = [over && answers[over], side && answers[side]]
  if (!base || !other) return null
  const ms = (list: PeerAnswer[]) => list.map((answer) => answer.ms)
  return speedup(ms(base), ms(other))
}

function fastest(
  rates: Record<string, Record<number, number>>,
  batch: number,
  names: string[],
): string | undefined {
  return names.filter((name) => rates[name]).sort((a, b) => rates[b]![batch]! - rates[a]![batch]!)[0]
}

/** Captions of each side that are not those of `base`, in its last round. */
function differing(answers: Record<string, PeerAnswer[]>, base: string): Record<string, number> {
  const expected = answers[base]?.at(-1)?.ids
  if (!expected) return {}
  return Object.fromEntries(
    Object.entries(answers).map(([name, list]) => [
      name,
      list.at(-1)!.ids.filter((ids, row) => ids.join() !== expected[row]!.join()).length,
    ]),
  )
}

/** A file of raw pictures of the model's size. */
async function writePictures({ side }: BlipSizes, count: number): Promise<string> {
  const file = join(benchFolder, `pictures-${side}-${count}`)
  await writeFile(file, smoothPixels(count, { height: side, width: side }))
  return file
}
