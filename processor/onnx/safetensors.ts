import { open, writeFile } from 'node:fs/promises'

/** Element types of safetensors files that Turbine reads or writes, with their sizes in bytes. */
const elementBytes = { F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U8: 1, F64: 8 } as const

export type SafetensorsType = keyof typeof elementBytes

/** Where a tensor lies in its file. */
export interface TensorLocation {
  type: SafetensorsType
  shape: number[]
  /** Bytes from the start of the file. */
  offset: number
  /** Bytes. */
  length: number
}

/** A file that is not what it should be; the message says what and where. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError'
  readonly retriable = false
}

/**
 * Reads the header of a safetensors file, not its data: tensor name -> place.
 * Format: 8 bytes little-endian header length, JSON header, data.
 * @throws SafetensorsError when the header is malformed or points beyond the file's end.
 */
export async function readSafetensorsHeader(file: string): Promise<Map<string, TensorLocation>> {
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    const prefix = new DataView(new ArrayBuffer(8))
    const { bytesRead } = await handle.read(prefix, 0, 8, 0)
    const headerBytes = bytesRead === 8 ? Number(prefix.getBigUint64(0, true)) : -1
    if (headerBytes < 2 || 8 + headerBytes > size)
      throw new SafetensorsError(`${file} is no safetensors file, or it is cut short.`)
    const header = new Uint8Array(headerBytes)
    await handle.read(header, 0, headerBytes, 8)
    return locate(file, parseHeader(file, header), 8 + headerBytes, size)
  } finally {
    await handle.close()
  }
}

type HeaderEntry = { dtype: string; shape: number[]; data_offsets: [number, number] }

function parseHeader(file: string, bytes: Uint8Array): Record<string, HeaderEntry> {
  try {
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new SafetensorsError(`The header of ${file} is not JSON.`, { cause })
  }
}

function locate(file: string, header: Record<string, HeaderEntry>, dataStart: number, fileSize: number) {
  const tensors = new Map<string, TensorLocation>()
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const bytes = elementBytes[entry.dtype as SafetensorsType]
    if (bytes === undefined)
      throw new SafetensorsError(`${file}: tensor ${name} has the unknown type ${entry.dtype}.`)
    const [start, end] = entry.data_offsets
    const length = entry.shape.reduce((product, size) => product * size, bytes)
    if (end - start !== length || dataStart + end > fileSize)
      throw new SafetensorsError(`${file}: tensor ${name} is cut short. Fetch the file again.`)
    const type = entry.dtype as SafetensorsType
    tensors.set(name, { type, shape: entry.shape, offset: dataStart + start, length })
  }
  return tensors
}

/** A tensor to write; `data` holds the elements in row-major order. */
export interface TensorData {
  type: SafetensorsType
  shape: number[]
  data: ArrayBufferView
}

/** Writes a safetensors file; every tensor is aligned to its element size. */
export async function writeSafetensors(file: string, tensors: Record<string, TensorData>): Promise<void> {
  await writeFile(file, encodeSafetensors(tensors))
}

function encodeSafetensors(tensors: Record<string, TensorData>): Uint8Array {
  // Larger elements first keeps every tensor aligned to its own element size.
  const entries = Object.entries(tensors).sort(([, a], [, b]) => elementBytes[b.type] - elementBytes[a.type])
  let end = 0
  const header: Record<string, HeaderEntry> = {}
  for (const [name, { type, shape, data }] of entries) {
    header[name] = { dtype: type, shape, data_offsets: [end, end + data.byteLength] }
    end += data.byteLength
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const headerBytes = Math.ceil(json.length / 8) * 8
  const bytes = new Uint8Array(8 + headerBytes + end).fill(0x20, 8, 8 + headerBytes)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true)
  bytes.set(json, 8)
  for (const [name, { data }] of entries) {
    const at = 8 + headerBytes + header[name]!.data_offsets[0]
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at)
  }
  return bytes
}
