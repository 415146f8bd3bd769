import { Tensor } from 'onnxruntime-node'
import type { Feeds } from '../../onnx/probe.ts'
import { dataTypes, encodeModel, type ModelProto } from '../../onnx/proto.ts'
import { openSession } from '../../onnx/session.ts'
import type { Plugged } from './plug-in.ts'

/** Largest difference that passes, relative to the largest magnitude of an output. */
const limits = { single: 1e-4, half: 5e-3 }

export interface SelfTest {
  /** Largest difference of an output from the original's, relative to the output's largest magnitude. */
  error: number
  passes: boolean
}

/**
 * Compares an encoder in which nothing merges with the file that it was made of, on one input. Computed in half
 * precision the two round differently, so that 5e-3 pass there, and 1e-4 elsewhere.
 *
 * @param folder that external data is relative to
 */
export async function selfTest(
  original: ModelProto,
  { model, layers }: Pick<Plugged, 'model' | 'layers'>,
  feeds: Feeds,
  folder: string,
): Promise<SelfTest> {
  const schedule = {
    r: new Tensor('int64', new BigInt64Array(layers), [layers]),
    weight: new Tensor('float32', new Float32Array(layers), [layers]),
  }
  const expected = await outputsOf(original, feeds, folder)
  // What ONNX Runtime refuses to run passes as little as what it runs to other numbers.
  const actual: Feeds = await outputsOf(model, { ...feeds, ...schedule }, folder).catch(() => ({}))
  return compared(original, expected, actual)
}

/** Outputs of an encoder in which nothing merges against those of the file that it was made of. */
export function compared(original: ModelProto, expected: Feeds, actual: Feeds): SelfTest {
  const error = Math.max(
    ...Object.entries(expected).map(([name, tensor]) => difference(tensor, actual[name])),
  )
  const isHalf = original.graph.initializer?.some(({ dataType }) => dataType === dataTypes.float16)
  // A difference that is not a number is none that passes.
  return { error, passes: error <= (isHalf ? limits.half : limits.single) }
}

async function outputsOf(model: ModelProto, feeds: Feeds, folder: string): Promise<Feeds> {
  const session = await openSession(encodeModel(model), folder)
  try {
    const { inputNames } = session
    const own = Object.entries(feeds).filter(([name]) => inputNames.includes(name))
    return (await session.run(Object.fromEntries(own))) as Feeds
  } finally {
    await session.release()
  }
}

function difference(expected: Tensor, actual: Tensor | undefined): number {
  if (actual?.dims.join() !== expected.dims.join()) return Number.POSITIVE_INFINITY
  const [a, b] = [expected.data, actual.data].map((data) => Array.from(data as Float32Array, Number)) as [
    number[],
    number[],
  ]
  let [largest, scale] = [0, 1]
  for (let i = 0; i < a.length; i++) {
    const distance = Math.abs(a[i]! - b[i]!)
    // Also true when it is not a number.
    if (!(distance <= largest)) largest = distance
    scale = Math.max(scale, Math.abs(a[i]!))
  }
  return largest / scale
}
