import { Tensor } from 'onnxruntime-node'
import type { Feeds } from '../../onnx/probe.ts'
import { encodeModel, type ModelProto } from '../../onnx/proto.ts'
import { readOnnx } from '../../onnx/read.ts'
import { isOnCpu, openSession, runsFewTimes, type SessionOptions } from '../../onnx/session.ts'
import { ModelFolderError } from '../../onnx/weights.ts'
import { type Plugged, plugTurbo } from '../../turbo/plug/plug-in.ts'
import { PlugRefusal } from '../../turbo/plug/refusal.ts'
import { compared } from '../../turbo/plug/self-test.ts'
import type { GraphOptions, SelfTestOptions } from '../model.ts'
import { type Normalisation, type PictureRule, type PictureShape, pictureBytes, unitOf } from '../pictures.ts'
import { isBatchInvariant } from './part.ts'
import { type PixelLayout, withUint8Pixels } from './pixels.ts'
import { seededUniforms } from './random.ts'
import { float32, int64 } from './rows.ts'

export interface VisionGraphOptions {
  file: string
  /** Folder that the session will read weights from. */
  folder: string
  picture: PictureRule
  normalise: Normalisation
  /** Gives a row for each token at the output, for text models that read a fixed number. Default: true. */
  unmerge?: boolean
}

/** A vision session of an exported file, with Turbo where it has a place for it. */
export interface VisionGraph {
  /** Undefined where there is no place. */
  plugged: Plugged | undefined
  /** Why there is none. */
  refused?: string
  /** Side of the square patches that its tokens are, pixels; absent where they are no such patches. */
  patch?: number
  /** Name of the output that is read. */
  output: string
  /** False when what is made of a picture depends on the others of its batch. */
  batchInvariant: boolean
  build(options?: GraphOptions): Promise<Uint8Array>
  /**
   * Runs it as it is served on one picture of `shape`, and compares that with the file.
   * @returns what is read of the picture
   * @throws ModelFolderError when it cannot be run so, or gives other numbers than the file where nothing merges
   */
  test(shape: PictureShape, options?: SelfTestOptions): Promise<Tensor>
}

/** @throws ModelFolderError */
export async function visionGraph(options: VisionGraphOptions): Promise<VisionGraph> {
  const { file, folder, picture, normalise, unmerge = true } = options
  const original = readOnnx(file, { folder })
  const layout: PixelLayout = {
    ...normalise,
    ...layoutOf(original, picture, normalise),
    input: inputOf(original),
  }
  assertSides(file, original, layout, picture)
  const output = original.graph.output[0]?.name
  if (output === undefined) throw new ModelFolderError(`${file} has no outputs. Pull the model again.`)
  const feeds = madeUpFeeds(layout, picture)
  const plug = (graph: GraphOptions = {}) => plugged(original, { feeds, folder, graph, unmerge })
  const usual = await plug()
  const build = async (graph: GraphOptions = {}) => {
    if (graph.mode === 'none') return encodeModel(withUint8Pixels(original, layout))
    const isUsual = graph.threshold === undefined && !graph.trace && !graph.gpu
    const found = isUsual ? usual.plugged : (await plug(graph)).plugged
    return encodeModel(withUint8Pixels(found?.model ?? original, layout))
  }
  return {
    ...usual,
    ...(usual.plugged && { patch: patchOf(picture, usual.plugged) }),
    output,
    batchInvariant: isBatchInvariant(original),
    build,
    async test(shape, { graph, session = {} } = {}) {
      const run = (bytes: Uint8Array, on: SessionOptions) => outputsOf(bytes, options, shape, on)
      const served = await run(await build(graph), session)
      if (usual.plugged) {
        // Other devices round differently: there the graphs are compared on the CPU.
        const actual = isOnCpu(session) ? served : await run(await build(), {})
        const { error, passes } = compared(original, await run(await build({ mode: 'none' }), {}), actual)
        if (!passes)
          throw new ModelFolderError(
            `${file}: with Turbo in it, the encoder differs by ${error.toPrecision(2)} where nothing merges. Use another dtype, or export the model again.`,
          )
      }
      return served[output]!
    },
  }
}

/** Sides that a file has been exported for are those of its pictures. */
function assertSides(file: string, { graph }: ModelProto, layout: PixelLayout, picture: PictureRule): void {
  if (layout.layout === 'patches') return
  const { input = 'pixel_values' } = layout
  const { dim = [] } = graph.input.find(({ name }) => name === input)?.type?.tensorType?.shape ?? {}
  const sides = (layout.layout === 'bgr' ? dim.slice(1, 3) : dim.slice(-2)).map(({ dimValue }) => dimValue)
  const wanted = unitOf(picture)
  if (sides.some((side, index) => side !== undefined && side > 0 && side !== wanted[index]))
    throw new ModelFolderError(
      `${file} takes pictures of ${sides.map((side) => side ?? 'any').join(' x ')} pixels; the folder's configuration makes them ${wanted.join(' x ')}. Pull the model again.`,
    )
}

/** Runs a vision graph on one picture of noise, in which nothing merges. */
async function outputsOf(
  graph: Uint8Array,
  { file, folder, picture }: VisionGraphOptions,
  shape: PictureShape,
  options: SessionOptions,
): Promise<Feeds> {
  const opened = await openSession(graph, folder, runsFewTimes(options))
  try {
    const uniform = seededUniforms(1)
    const noise = Uint8Array.from({ length: pictureBytes(picture, shape) }, () => 256 * uniform())
    const unit =
      picture.kind === 'patches' ? [pictureBytes(picture, shape) / shape.count] : [...unitOf(picture), 3]
    const grid = int64([1, shape.rows, shape.cols], [1, 3])
    const feeds: Record<string, Tensor> = {}
    for (const { name, ...input } of opened.inputMetadata) {
      const layers = input.isTensor ? Number(input.shape[0]) : 0
      const known: Record<string, () => Tensor> = {
        pixels: () => new Tensor('uint8', noise, [shape.count, ...unit]),
        r: () => int64(new Uint8Array(layers), [layers]),
        weight: () => float32(new Float32Array(layers), [layers]),
        grid_thw: () => grid,
        image_grid_thw: () => grid,
      }
      if (!Object.hasOwn(known, name))
        throw new ModelFolderError(`${file} needs the input ${name}, which is not known.`)
      feeds[name] = known[name]!()
    }
    return (await opened.run(feeds)) as Feeds
  } catch (cause) {
    if (cause instanceof ModelFolderError) throw cause
    const [line] = (cause as Error).message.split('\n')
    throw new ModelFolderError(
      `${file} cannot be run on a picture as the folder's configuration has it: ${line}`,
      { cause },
    )
  } finally {
    await opened.release()
  }
}

async function plugged(
  original: ModelProto,
  {
    feeds,
    folder,
    graph,
    unmerge,
  }: { feeds: Feeds | undefined; folder: string; graph: GraphOptions; unmerge: boolean },
): Promise<Pick<VisionGraph, 'plugged' | 'refused'>> {
  if (feeds === undefined) return { plugged: undefined, refused: 'its positions are rotary' }
  const { threshold, trace, gpu } = graph
  try {
    return {
      plugged: await plugTurbo(original, { feeds, folder, unmergeAtOutput: unmerge, threshold, trace, gpu }),
    }
  } catch (error) {
    if (error instanceof PlugRefusal) return { plugged: undefined, refused: error.message }
    throw error
  }
}

/** Patches of a side that is not a multiple of theirs leave out its end. */
function patchOf(picture: PictureRule, { tokensIn, prefix }: Plugged): number | undefined {
  const [height, width] = unitOf(picture)
  const patches = tokensIn - prefix
  const patch = Math.floor(Math.sqrt((height * width) / patches))
  return Math.floor(height / patch) * Math.floor(width / patch) === patches ? patch : undefined
}

/** Name of the image's input: taggers have no common one. */
function inputOf({ graph }: ModelProto): string | undefined {
  const weights = new Set(graph.initializer?.map(({ name }) => name))
  const names = graph.input.map(({ name }) => name).filter((name) => !weights.has(name))
  return names.length === 1 ? names[0] : undefined
}

function layoutOf(
  { graph }: ModelProto,
  { kind }: PictureRule,
  { channels }: Normalisation,
): Pick<PixelLayout, 'layout' | 'mask'> {
  if (kind === 'patches') return { layout: 'patches' }
  if (kind === 'tiles') {
    const mask = graph.input.find(({ name }) => name === 'pixel_attention_mask')?.name
    return { layout: 'tiles', ...(mask && { mask }) }
  }
  return { layout: channels === 'bgr' ? 'bgr' : 'image' }
}

/** Two images of noise, as the file takes them; undefined for patches. */
function madeUpFeeds(
  { layout, mask, input = 'pixel_values' }: PixelLayout,
  rule: PictureRule,
): Feeds | undefined {
  if (layout === 'patches') return undefined
  const [height, width] = unitOf(rule)
  const dims = layout === 'bgr' ? [2, height, width, 3] : [2, 3, height, width]
  const uniform = seededUniforms(1)
  const values = Float32Array.from({ length: 6 * height * width }, () => 2 * uniform() - 1)
  const whole = layout === 'tiles' ? [1, ...dims] : dims
  return {
    [input]: new Tensor('float32', values, whole),
    ...(mask && {
      [mask]: new Tensor('bool', new Uint8Array(2 * height * width).fill(1), [1, 2, height, width]),
    }),
  }
}
