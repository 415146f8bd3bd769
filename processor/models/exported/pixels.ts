import { Graph } from '../../onnx/graph.ts'
import type { Int, Shape, Value } from '../../onnx/operators.ts'
import { type DataType, dataTypes, type ModelProto, type ValueInfoProto } from '../../onnx/proto.ts'
import { ModelFolderError } from '../../onnx/weights.ts'

/** How a session takes an image. */
export interface PixelLayout {
  /**
   * - `image`: `pixels [n, H, W, 3]` -> `[n, 3, H, W]`
   * - `tiles`: `pixels [n, H, W, 3]` -> `[1, n, 3, H, W]`, Idefics3
   * - `bgr`: `pixels [n, H, W, 3]` -> `[n, H, W, 3]`, blue first, WD taggers
   * - `patches`: `pixels [n, 3 * patch * patch]`, channel first -> `[n, 3 * 2 * patch * patch]`, each patch twice in
   *   time, Qwen2-VL
   */
  layout: 'image' | 'tiles' | 'bgr' | 'patches'
  /** Multiplies grey levels, usually 1/255. */
  rescale: number
  /** Taken off and divided by, for red, green and blue, after that. */
  mean: readonly number[]
  std: readonly number[]
  /** Name of the image's input. Default: the only one of float type that is there, or `pixel_values`. */
  input?: string
  /** Name of a mask of pixels that are not padding; none is, so all are ones. */
  mask?: string
}

/**
 * A vision session that takes `pixels uint8`, with the normalisation inside: a quarter of the bytes cross to a device,
 * and nothing is left to do on the host. The session's own input may be float32 or float16.
 *
 * @throws ModelFolderError when the session has no such input
 */
export function withUint8Pixels(model: ModelProto, layout: PixelLayout): ModelProto {
  const { graph } = model
  const input = inputOf(model, layout)
  const type = elementType(input)
  const g = new Graph(undefined, 'pixels/')
  const pixels = g.input(
    'pixels',
    'uint8',
    layout.layout === 'patches' ? ['n', 'values'] : imageShape(input, layout),
  )
  const replaced = new Set([input.name])
  g.alias(normalised(g, pixels, layout, type), input.name)
  const mask = graph.input.find(({ name }) => name === layout.mask)
  if (layout.mask && !mask) throw new ModelFolderError(`The vision session has no input ${layout.mask}.`)
  if (mask) {
    replaced.add(mask.name)
    g.alias(ones(g, pixels, elementType(mask)), mask.name)
  }
  return {
    ...model,
    graph: {
      ...graph,
      node: [...g.takeNodes(), ...graph.node],
      initializer: [...(graph.initializer ?? []), ...g.initializers],
      input: [...g.inputs, ...graph.input.filter(({ name }) => !replaced.has(name))],
    },
  }
}

function inputOf({ graph }: ModelProto, { input }: PixelLayout): ValueInfoProto {
  const constants = new Set((graph.initializer ?? []).map(({ name }) => name))
  const images = graph.input.filter(
    (each) => !constants.has(each.name) && floats.has(each.type?.tensorType?.elemType ?? 0),
  )
  const named = images.find(({ name }) => name === (input ?? 'pixel_values'))
  const found = named ?? (input === undefined && images.length === 1 ? images[0] : undefined)
  if (found) return found
  throw new ModelFolderError(
    `The vision session has no input ${input ?? 'pixel_values'} of float numbers, only ${graph.input.map(({ name }) => name).join(', ')}.`,
  )
}

const floats = new Set<number>([dataTypes.float32, dataTypes.float16])

function elementType({ name, type }: ValueInfoProto): DataType {
  const found = Object.entries(dataTypes).find(([, number]) => number === type?.tensorType?.elemType)
  if (!found) throw new ModelFolderError(`The vision session's input ${name} has an unknown type.`)
  return found[0] as DataType
}

/** `[n, H, W, 3]` with the sizes that the session's own input names. */
function imageShape({ type }: ValueInfoProto, { layout }: PixelLayout): Shape {
  const sizes = (type?.tensorType?.shape?.dim ?? []).map(({ dimValue }) => Number(dimValue) || undefined)
  const [height, width] = layout === 'bgr' ? sizes.slice(-3, -1) : sizes.slice(-2)
  return ['n', height ?? 'height', width ?? 'width', 3]
}

function normalised(g: Graph, pixels: Value<'uint8'>, options: PixelLayout, type: DataType): Value {
  const { layout, rescale, mean, std } = options
  const scale = std.map((each) => rescale / each)
  const shift = mean.map((each, channel) => -each / std[channel]!)
  if (layout === 'bgr') {
    // Bytes are turned, a quarter of what the numbers would be.
    const turned = g.gather(pixels, g.ints([2, 1, 0]), 3)
    return g.cast(scaled(g, turned, { scale: scale.toReversed(), shift: shift.toReversed() }, [3]), type)
  }
  if (layout === 'patches') {
    const perChannel = scaled(g, g.reshape(pixels, [0, 3, -1]), { scale, shift }, [3, 1])
    // In the order of a row: channel, time, height, width.
    return g.cast(g.reshape(g.concat([perChannel, perChannel], 2), [0, -1]), type)
  }
  // Channels first, so that each is scaled in one go.
  const channels = g.transpose(pixels, [0, 3, 1, 2])
  const image = g.cast(scaled(g, channels, { scale, shift }, [3, 1, 1]), type)
  if (layout === 'image') return image
  return g.reshape(image, g.concat([g.ints([1]), sizesOf(g, image)], 0))
}

/** Grey levels as float32, times the scale and plus the shift of their channel; `dims` is how three numbers lie along it. */
function scaled(
  g: Graph,
  pixels: Value<'uint8'>,
  { scale, shift }: { scale: number[]; shift: number[] },
  dims: number[],
): Value<'float32'> {
  const values = g.cast(pixels, 'float32')
  const isPlain = scale.every((each) => each === 1) && shift.every((each) => each === 0)
  return isPlain ? values : g.add(g.mul(values, g.floats(scale, dims)), g.floats(shift, dims))
}

/** `[1, n, H, W]` of ones. */
function ones(g: Graph, pixels: Value<'uint8'>, type: DataType): Value {
  const sizes = g.slice(sizesOf(g, pixels), 0, 0, 3)
  return g.expand(g.cast(g.ints(1), type), g.concat([g.ints([1]), sizes], 0))
}

/** All sizes, in the form that operators of any version have. */
const sizesOf = (g: Graph, x: Value): Int => g.op('Shape', [x], ['int64'])[0]
