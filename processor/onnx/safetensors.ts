import { open, writeFile } from 'node:fs/promises'
import { z } from 'zod'

/** Element types of safetensors files that Turbine reads or writes, with their sizes in bytes. */
const elementBytes = { F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U8: 1, F64: 8 } as const

export type SafetensorsType = keyof typeof elementBytes

/** Location of a tensor in its file. */
export interface TensorLocation {
  type: SafetensorsType
  shape: number[]
  /** Bytes from the start of the file. */
  offset: number
  /** Bytes. */
  length: number
}

/** The format's own limit. */
const mostHeaderBytes = 100_000_000

/** Invalid safetensors file; the message says what is wrong and where. */
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
    if (headerBytes < 2 || headerBytes > mostHeaderBytes || 8 + headerBytes > size)
      throw new SafetensorsError(`${file} is no safetensors file, or it is cut short.`)
    const header = new Uint8Array(headerBytes)
    await handle.read(header, 0, headerBytes, 8)
    return locate(file, parseHeader(file, header), 8 + headerBytes, size)
  } finally {
    await handle.close()
  }
}

const wholeNumber = z.int().min(0)
const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(wholeNumber),
  data_offsets: z.tuple([wholeNumber, wholeNumber]),
})
type HeaderEntry = z.output<typeof entrySchema>

const headerSchema = z.object({ __metadata__: z.unknown() }).partial().catchall(entrySchema)

function parseHeader(file: string, bytes: Uint8Array): Record<string, HeaderEntry> {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new SafetensorsError(`The header of ${file} is not JSON.`, { cause })
  }
  const parsed = headerSchema.safeParse(json)
  if (!parsed.success) throw new SafetensorsError(whyMalformed(file, parsed.error), { cause: parsed.error })
  const { __metadata__, ...entries } = parsed.data
  return entries
}

function whyMalformed(file: string, { issues }: z.ZodError): string {
  const name = issues[0]?.path[0]
  return name === undefined
    ? `The header of ${file} lists no tensors.`
    : `${file}: tensor ${String(name)} lacks a dtype, a shape or its data_offsets.`
}

function locate(file: string, header: Record<string, HeaderEntry>, dataStart: number, fileSize: number) {
  const tensors = new Map<string, TensorLocation>()
  for (const [name, entry] of Object.entries(header)) {
    if (!isKnownType(entry.dtype))
      throw new SafetensorsError(`${file}: tensor ${name} has the unknown type ${entry.dtype}.`)
    const [start, end] = entry.data_offsets
    const length = entry.shape.reduce((product, size) => product * size, elementBytes[entry.dtype])
    if (end - start !== length)
      throw new SafetensorsError(
        `${file}: tensor ${name} ${entry.dtype} [${entry.shape.join(', ')}] has ${end - start} bytes instead of ${length}.`,
      )
    if (dataStart + end > fileSize)
      throw new SafetensorsError(`${file}: tensor ${name} is cut short. Fetch the file again.`)
    tensors.set(name, { type: entry.dtype, shape: entry.shape, offset: dataStart + start, length })
  }
  refuseOverlaps(file, tensors)
  return tensors
}

const isKnownType = (dtype: string): dtype is SafetensorsType => Object.hasOwn(elementBytes, dtype)

function refuseOverlaps(file: string, tensors: Map<string, TensorLocation>): void {
  let end = 0
  for (const [name, { offset, length }] of [...tensors].sort(([, a], [, b]) => a.offset - b.offset)) {
    if (length > 0 && offset < end)
      throw new SafetensorsError(`${file}: tensor ${name} overlaps another. Fetch the file again.`)
    end = Math.max(end, offset + length)
  }
}

/** A tensor to write; `data` holds the elements in row-major order. */
export interface TensorData {
  type: SafetensorsType
  shape: number[]
  data: ArrayBufferView
}

/** Writes a safetensors file; every tensor is aligned to its element size. */
export async function writeSafetensors(file: string, tensors: Record<string, TensorData>): Promise<void> {
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
  await writeFile(file, bytes)
}
