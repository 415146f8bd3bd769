import type { TensorProto } from './proto.ts'

/** Bits of an element by ONNX's number of its type; strings (8) have none. */
const elementBits: Readonly<Record<number, number>> = {
  1: 32, // float32
  2: 8, // uint8
  3: 8, // int8
  4: 16, // uint16
  5: 16, // int16
  6: 32, // int32
  7: 64, // int64
  9: 8, // bool
  10: 16, // float16
  11: 64, // float64
  12: 32, // uint32
  13: 64, // uint64
  14: 64, // complex64
  15: 128, // complex128
  16: 16, // bfloat16
  17: 8, // float8e4m3fn
  18: 8, // float8e4m3fnuz
  19: 8, // float8e5m2
  20: 8, // float8e5m2fnuz
  21: 4, // uint4
  22: 4, // int4
  23: 4, // float4e2m1
  24: 8, // float8e8m0
  25: 2, // uint2
  26: 2, // int2
}

/** Bytes of a tensor's data as raw data; undefined when its sizes or its type are none that can be. */
export function tensorBytes({ dims, dataType }: TensorProto): number | undefined {
  // Also those that are read as BigInt are none that can be.
  if (!dims.every((size) => Number.isSafeInteger(size) && size >= 0)) return undefined
  const count = dims.reduce((product, size) => product * size, 1)
  const bits = elementBits[dataType]
  if (!Number.isSafeInteger(count)) return undefined
  if (dataType === 8) return 0
  return bits === undefined ? undefined : Math.ceil((count * bits) / 8)
}
