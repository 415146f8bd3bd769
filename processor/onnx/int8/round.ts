import { dataTypes } from '../proto.ts'

/**
 * Largest whole numbers of weights: all that int8 has, or half of it for CPUs whose kernels add pairs of products in 16 bits,
 * which 2 * 255 * 127 passes and 2 * 255 * 63 does not.
 */
export const largestWhole = { exact: 127, saturating: 63 } as const

/** Rows of a matrix, in row-major order. */
export interface MatrixPart {
  elements: Float32Array
  rows: number
  columns: number
}

interface RoundOptions {
  /** Whether rows are output channels; else columns are. */
  outputsFirst: boolean
  to: number
  from: number
  /** Largest whole number. */
  most: number
}

/** Output channels that are written side by side: a transposed matrix is written in pieces of a cache line. */
const block = 64

/** Rounds a weight to whole multiples of a scale of each output channel: `values [from, to]`, `scales [to]`. */
export function roundMatrix(parts: MatrixPart[], { outputsFirst, to, from, most }: RoundOptions) {
  const values = new Int8Array(from * to)
  const scales = new Float32Array(to)
  let first = 0
  for (const { elements, rows, columns } of parts) {
    const [outputs, outputStep, inputStep] = outputsFirst ? [rows, columns, 1] : [columns, 1, columns]
    for (let begin = 0; begin < outputs; begin += block) {
      const end = Math.min(outputs, begin + block)
      const largest = new Float32Array(block)
      for (let input = 0; input < from; input++)
        for (let output = begin; output < end; output++) {
          const size = Math.abs(elements[output * outputStep + input * inputStep]!)
          if (size > largest[output - begin]!) largest[output - begin] = size
        }
      const factors = largest.map((size) => (size > 0 ? most / size : 0))
      for (let input = 0; input < from; input++)
        for (let output = begin; output < end; output++)
          values[input * to + first + output] = Math.round(
            elements[output * outputStep + input * inputStep]! * factors[output - begin]!,
          )
      for (let output = begin; output < end; output++)
        scales[first + output] = largest[output - begin]! / most
    }
    first += outputs
  }
  return { values, scales }
}

/** Elements of a stored tensor in float32. */
export function toFloat32(bytes: Uint8Array, dataType: number): Float32Array {
  if (dataType === dataTypes.float32) return new Float32Array(bytes.buffer)
  const halves = new Uint16Array(bytes.buffer)
  if (dataType === dataTypes.bfloat16) {
    const widened = new Uint32Array(halves.length)
    for (let i = 0; i < halves.length; i++) widened[i] = halves[i]! << 16
    return new Float32Array(widened.buffer)
  }
  return Float32Array.from(new Float16Array(bytes.buffer))
}
