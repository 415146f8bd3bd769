import { Tensor } from 'onnxruntime-node'

/** Input of a session as onnxruntime-node tells it. */
export interface InputMetadata {
  name: string
  isTensor: boolean
  type?: string
  shape?: readonly (number | string)[]
}

type Numbers = Float32Array | BigInt64Array | Int32Array | Uint8Array

/** Caches of a batch: each tensor has a row per caption at its first axis. */
export type Caches = Record<string, Tensor>

const numbersOf = (tensor: Tensor) => tensor.data as Numbers
const constructorOf = (numbers: Numbers) => numbers.constructor as new (length: number) => Numbers

/** True for keys and values, whose third axis is one slot for each id; states keep their size. */
export const grows = ({ shape = [] }: InputMetadata): boolean => typeof shape[2] === 'string'

/** Caches before the first id: no slots, states of zeros. */
export function emptyCaches(inputs: readonly InputMetadata[], rows: number): Caches {
  return Object.fromEntries(
    inputs.map(({ name, shape = [] }) => {
      const dims = shape.map((size, axis) => (axis === 0 ? rows : typeof size === 'number' ? size : 0))
      return [name, new Tensor('float32', new Float32Array(product(dims)), dims)]
    }),
  )
}

/** The rows of a tensor that are kept. */
export function takeRows(tensor: Tensor, rows: number[]): Tensor {
  const numbers = numbersOf(tensor)
  const size = product(tensor.dims.slice(1))
  const taken = new (constructorOf(numbers))(rows.length * size)
  for (const [to, from] of rows.entries()) copy(numbers, from * size, taken, to * size, size)
  return tensorLike(tensor, taken, [rows.length, ...tensor.dims.slice(1)])
}

/** Batches one behind the other, of states that keep their size. */
export function concatRows(tensors: Tensor[]): Tensor {
  const all = tensors.map(numbersOf)
  const joined = new (constructorOf(all[0]!))(all.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const numbers of all) {
    copy(numbers, 0, joined, at, numbers.length)
    at += numbers.length
  }
  const rows = tensors.reduce((sum, { dims }) => sum + dims[0]!, 0)
  return tensorLike(tensors[0]!, joined, [rows, ...tensors[0]!.dims.slice(1)])
}

/**
 * Keys or values `[B, heads, slots, width]` of several batches as one batch, where each row's ids are in the slots from
 * 0 on. `masks` has a row's used slots, for all rows in order.
 */
export function joinSlots(tensors: Tensor[], masks: Uint8Array[], slots: number): Tensor {
  const [, heads, , width] = tensors[0]!.dims as [number, number, number, number]
  const joined = new (constructorOf(numbersOf(tensors[0]!)))(masks.length * heads * slots * width)
  let row = 0
  for (const tensor of tensors) {
    const [rows, , from] = tensor.dims as [number, number, number, number]
    const numbers = numbersOf(tensor)
    for (let each = 0; each < rows; each++, row++) {
      const runs = runsOf(masks[row]!)
      for (let head = 0; head < heads; head++) {
        const source = (each * heads + head) * from
        const target = (row * heads + head) * slots
        for (const { start, end, to } of runs)
          copy(numbers, (source + start) * width, joined, (target + to) * width, (end - start) * width)
      }
    }
  }
  return tensorLike(tensors[0]!, joined, [masks.length, heads, slots, width])
}

/** Used slots that follow each other, and the slot where they go when gaps are closed. */
function runsOf(mask: Uint8Array): { start: number; end: number; to: number }[] {
  const runs: { start: number; end: number; to: number }[] = []
  let to = 0
  for (let at = 0; at < mask.length; at++) {
    if (mask[at] === 0) continue
    const start = at
    while (at < mask.length && mask[at] === 1) at++
    runs.push({ start, end: at, to })
    to += at - start
  }
  return runs
}

const product = (dims: readonly number[]) => dims.reduce((size, dim) => size * dim, 1)

function copy(from: Numbers, start: number, to: Numbers, at: number, length: number): void {
  ;(to as Float32Array).set((from as Float32Array).subarray(start, start + length), at)
}

const tensorLike = ({ type }: Tensor, numbers: Numbers, dims: number[]) =>
  new Tensor(type as 'float32', numbers as Float32Array, dims)
