import { mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { Command, Option } from 'commander'
import { describeSkipped, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import type { ConfigRow } from '../../../infra/config.ts'
import { encodeFileName } from '../../../infra/file-name.ts'
import { ownBytes } from '../../decoding/loaders/loaded-image.ts'
import { type TensorData, writeSafetensors } from '../../onnx/safetensors.ts'
import { defaultThreshold, modes, pruneRatio, type TurboMode } from '../../turbo/schedule.ts'
import { readSources, resolveInputs } from '../caption/inputs.ts'
import { isAddress, type Source } from '../caption/manifest.ts'
import type { ReadImage } from '../caption/read-image.ts'
import { describeError, IncompleteError, UsageError } from '../errors.ts'
import { plural } from '../format.ts'
import { anyNumber, index, numberOrList } from '../options.ts'
import type { Terminal } from '../progress.ts'
import { replaceFile } from '../replace-file.ts'
import { type ModelFlags, settingOption } from '../settings.ts'
import { drawTiles, type TiledMerges } from './merge-picture.ts'

/** Merge settings of an inspection. */
export interface TraceOptions {
  /** Image tokens to merge in every layer, or one number per layer. */
  r: number | number[]
  alpha: number
  beta: number
  gamma: number
  /** Blocks that fewer tokens enter do not merge. */
  threshold: number
  mode: TurboMode
}

/** Inspection of one image: of a tiled one all tiles, one behind the other. */
export interface Trace extends TiledMerges {
  /** What the text model reads, `float32 [rows, dim]`; of BLIP the tokens `[N', D]` after the encoder's last norm. */
  tokens?: { data: Float32Array; dim: number }
  /** Of a tagger, `float32 [tags]`. */
  scores?: Float32Array
  /** `float32 [N']`: patches and CLS that each final token stands for. */
  sizes: Float32Array
  /** `int64 [T]`: the caption as generated, with what starts and ends it where a model makes these. */
  ids: BigInt64Array
  caption: string
}

/** Model opened for inspection. */
export interface Inspector {
  /** What is to be known of it, one line. */
  note?: string | undefined
  /** @throws TurbineError for an invalid image */
  trace(image: Uint8Array, options: TraceOptions): Promise<Trace>
  close(): Promise<void>
}

/** Dependencies of the command. */
export interface InspectEnvironment extends Terminal {
  openInspector(flags: ModelFlags): Promise<Inspector>
  readImage: ReadImage
  stdin: AsyncIterable<Uint8Array>
}

export interface InspectFlags extends TraceOptions, ModelFlags {
  out: string
  picture?: boolean
}

const examples = `
Examples:
  npx turbine inspect photo.jpg --r 16 --out seen --picture
  npx turbine inspect ./photos --r 40,30,20,15,10,8,6,4,2,0,0,0 --out seen
  npx turbine inspect photo.jpg --r 16 --mode tome --out seen

Writes a safetensors file for each image, and with --picture a PNG, named after the image:
  pixels  uint8   [H, W, 3]  resized image; not resampled if it has the model's size
  tokens  float32 [N', D]    image tokens after the encoder's last norm; of other families than BLIP what the text reads
  sizes   float32 [N']       number of unpruned tokens merged into each token
  source  int64   [N]        index of the final token for each unpruned token, CLS first
  ids     int64   [T]        ids of the caption
  scores  float32 [tags]     of a tagger, in place of tokens and ids
A model that cuts images into tiles has them as a first axis of pixels, sizes and source.`

export function inspectCommand(environment: InspectEnvironment, settings: ConfigRow[]): Command {
  return new Command('inspect')
    .description('export pixels, tokens, merges and caption ids of images')
    .argument('<images...>', 'images, folders, globs or URLs')
    .requiredOption(
      '--r <n>',
      'image tokens to merge in every layer, or a list with one per layer',
      numberOrList,
    )
    .requiredOption('-o, --out <folder>', 'output folder')
    .option('--picture', 'draw the image with the merged regions outlined')
    .option('--alpha <x>', 'weight of the semantic value', anyNumber, 5)
    .option('--beta <x>', 'change of the weight from layer to layer', anyNumber, 1)
    .option('--gamma <x>', 'layer at which the weight is alpha', anyNumber, 0)
    .option('--threshold <n>', 'layers with fewer input tokens do not merge', index, defaultThreshold)
    .addOption(new Option('--mode <mode>', 'merge score').choices(modes).default('turbo'))
    .addOption(settingOption(settings, 'prompt'))
    .addOption(settingOption(settings, 'model'))
    .addOption(settingOption(settings, 'device'))
    .addOption(settingOption(settings, 'dtype'))
    .addOption(settingOption(settings, 'precision'))
    .addHelpText('after', examples)
    .action((images: string[], flags: InspectFlags, command: Command) => {
      const weights = ['alpha', 'beta', 'gamma'].filter(
        (name) => command.getOptionValueSource(name) === 'cli',
      )
      if (flags.mode !== 'turbo' && weights.length > 0)
        throw new UsageError(
          `--${weights[0]} has no effect with --mode ${flags.mode}: only turbo has weights.`,
        )
      return runInspect(images, flags, environment)
    })
}

/** Writes and prints the inspection of each image. @throws UsageError, IncompleteError when some images failed */
export async function runInspect(
  images: string[],
  flags: InspectFlags,
  environment: InspectEnvironment,
): Promise<void> {
  const inputs = await resolveInputs(images)
  await mkdir(flags.out, { recursive: true })
  const inspector = await environment.openInspector(flags)
  if (inspector.note) environment.stderr.write(`${inspector.note}\n`)
  const names = new Set<string>()
  const skipped: Skipped = {}
  let failed = 0
  let inspected = 0
  try {
    for await (const source of readSources(inputs, { stdin: environment.stdin, skipped })) {
      try {
        environment.stdout.write(`${await inspectImage(source, { inspector, names, flags, environment })}\n`)
        inspected++
      } catch (error) {
        environment.stderr.write(`${source.image}: ${describeError(error)}\n`)
        failed++
      }
    }
  } finally {
    await inspector.close()
  }
  const left = describeSkipped(skipped)
  if (left) environment.stderr.write(`Folders: ${left}\n`)
  if (failed > 0) throw new IncompleteError(`${plural(failed, 'image')} could not be inspected.`)
  if (inspected === 0) throw new IncompleteError(`There are no images in ${images.join(' ')}.`)
}

interface InspectRun {
  inspector: Inspector
  /** Used names in the output folder. */
  names: Set<string>
  flags: InspectFlags
  environment: InspectEnvironment
}

/** One line: `photo.jpg: 197 -> 62 tokens (68.9 % merged), "a dog", seen/photo.safetensors` */
async function inspectImage(
  source: Source,
  { inspector, names, flags, environment }: InspectRun,
): Promise<string> {
  if (source.location === undefined) throw source.error
  const bytes = ownBytes(await environment.readImage(source.location))
  const trace = await inspector.trace(bytes, flags)
  await assertElsewhere(source.location, flags.out)
  const path = join(flags.out, uniqueName(stemOf(source.image), names))
  const files = [`${path}.safetensors`]
  await replaceFile(files[0]!, (part) => writeSafetensors(part, traceTensors(trace)))
  if (flags.picture) {
    await replaceFile(`${path}.png`, (part) => writePicture(part, trace))
    files.push(`${path}.png`)
  }
  const tokensIn = trace.source.length
  const tokensOut = trace.sizes.length
  const tiles = trace.tiles?.count ?? 1
  const merged = (pruneRatio(tokensIn / tiles, tokensOut / tiles) * 100).toFixed(1)
  return `${source.image}: ${tokensIn} -> ${tokensOut} tokens (${merged} % merged), "${trace.caption}", ${files.join(', ')}`
}

/** The picture of an image can have the name of an image beside it. @throws UsageError */
async function assertElsewhere(location: string, out: string): Promise<void> {
  if (isAddress(location)) return
  const folder = dirname(await realpath(encodeFileName(location)))
  if (folder === (await realpath(out)))
    throw new UsageError(`It lies in the output folder, whose files are replaced. Choose another --out.`)
}

function traceTensors(trace: Trace): Record<string, TensorData> {
  const { pixels, height, width, tokens, scores, sizes, source, ids, tiles } = trace
  const perTile = (length: number) => (tiles ? [tiles.count, length / tiles.count] : [length])
  return {
    pixels: { type: 'U8', shape: [...(tiles ? [tiles.count] : []), height, width, 3], data: pixels },
    ...(tokens && {
      tokens: { type: 'F32', shape: [tokens.data.length / tokens.dim, tokens.dim], data: tokens.data },
    }),
    sizes: { type: 'F32', shape: perTile(sizes.length), data: sizes },
    source: { type: 'I64', shape: perTile(source.length), data: source },
    ...(scores
      ? { scores: { type: 'F32', shape: [scores.length], data: scores } }
      : { ids: { type: 'I64', shape: [ids.length], data: ids } }),
  }
}

async function writePicture(path: string, trace: Trace): Promise<void> {
  const { default: sharp } = await import('sharp')
  const { pixels, height, width } = drawTiles(trace)
  await sharp(pixels, { raw: { height, width, channels: 3 } })
    .png()
    .toFile(path)
}

/** File name without its extension: of a path, of a URL's path, or the hash of a `data:` URL. */
export function stemOf(image: string): string {
  const name = basename(isAddress(image) ? new URL(image).pathname : image)
  const stem = name.slice(0, name.length - extname(name).length).replace(/[^\p{L}\p{N}._ -]/gu, '_')
  return stem === '' ? 'image' : stem
}

/** `photo`, then `photo-2`, `photo-3` for images of the same name, ignoring case. */
export function uniqueName(stem: string, taken: Set<string>): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? stem : `${stem}-${number}`
    if (taken.has(name.toLowerCase())) continue
    taken.add(name.toLowerCase())
    return name
  }
}
