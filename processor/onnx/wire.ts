import protobuf from 'protobufjs'
import { modelType } from './proto.ts'

/** Bytes that are read a piece at a time, so that a file of gigabytes costs kilobytes. */
export interface ByteSource {
  size: number
  /** Fills `into` with the bytes from `offset` on; never asked for any beyond `size`. */
  read(offset: number, into: Uint8Array): void
}

/** What a file may ask for; anything above is no model that was exported. */
export interface WireLimits {
  /** Tensors of more bytes stay in the file. */
  inlineBytes?: number
  /** Bytes of the graph without them. */
  graphBytes?: number
  /** Messages, fields and numbers of the graph: each becomes an object. */
  items?: number
}

const defaults: Required<WireLimits> = { inlineBytes: 1024, graphBytes: 64 * 2 ** 20, items: 6_000_000 }

/** protobufjs goes no deeper either. */
const maxDepth = 99

/** The bytes are no ONNX model; the message completes "the file ...". */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/** Location that marks the file itself; no file has this name. */
export const ownFile = '\0own'

/**
 * Copies an ONNX model without its large tensors: their bytes stay where they are, and `external_data` tells offset and
 * length, with the location `ownFile`. Tensors in branches, loops and attributes too. The wire format is walked by the
 * schema's messages; lengths are checked against what is around them before anything is read.
 * @throws WireError
 */
export function leanModel(source: ByteSource, limits: WireLimits = {}): Uint8Array {
  return new Walk(source, { ...defaults, ...limits }).model()
}

const varintType = 0
const fixed64 = 1
const delimited = 2
const fixed32 = 5

const fixedTypes = new Set(['float', 'double', 'fixed32', 'fixed64', 'sfixed32', 'sfixed64'])

interface WireField {
  id: number
  wire: number
  /** Offsets of the key, of the content, and behind it. */
  start: number
  from: number
  end: number
}

/** Fields of TensorProto whose numbers lie as raw data has them: the element type, and its bytes. */
const rawAlike: Record<number, { dataType: number; bytes: number }> = {
  4: { dataType: 1, bytes: 4 },
  10: { dataType: 11, bytes: 8 },
}

class Walk {
  readonly #source: ByteSource
  readonly #limits: Required<WireLimits>
  readonly #buffer = new Uint8Array(windowBytes)
  #window = this.#buffer.subarray(0, 0)
  #windowStart = 0
  #items = 0
  #bytes = 0

  constructor(source: ByteSource, limits: Required<WireLimits>) {
    this.#source = source
    this.#limits = limits
  }

  model(): Uint8Array {
    const { size } = this.#source
    return this.#message(modelType, 0, size, 0) ?? this.#copy(0, size)
  }

  /** A message without its large tensors; undefined when it has none: it can be copied as it is. */
  #message(type: protobuf.Type, from: number, end: number, depth: number): Uint8Array | undefined {
    if (depth > maxDepth) throw new WireError(`nests more than ${maxDepth} levels deep`)
    const fields = this.#fields(from, end)
    if (type.name === 'TensorProto') return this.#tensor(type, [...fields])
    const parts: Uint8Array[] = []
    let copied = from
    for (const field of fields) {
      const changed = this.#field(type, field, depth)
      if (!changed) continue
      if (field.start > copied) parts.push(this.#copy(copied, field.start))
      parts.push(varints(field.id * 8 + delimited, changed.length), changed)
      copied = field.end
    }
    if (parts.length === 0) return undefined
    if (end > copied) parts.push(this.#copy(copied, end))
    return join(parts)
  }

  #field(type: protobuf.Type, field: WireField, depth: number): Uint8Array | undefined {
    const known = type.fieldsById[field.id]?.resolve()
    if (!known) return undefined
    if (known.resolvedType instanceof protobuf.Type && field.wire === delimited)
      return this.#message(known.resolvedType, field.from, field.end, depth + 1)
    this.#countNumbers(known, field)
    return undefined
  }

  #tensor(type: protobuf.Type, fields: WireField[]): Uint8Array | undefined {
    const [large, another] = fields.filter((field) => this.#staysInFile(field, fields))
    if (!large) {
      for (const field of fields) this.#field(type, field, 0)
      return undefined
    }
    if (another || fields.some(({ id }) => id === externalData || id === dataLocation))
      throw new WireError('has a tensor whose data is in two places')
    const { from, end } = large
    return join([
      ...fields.filter((field) => field !== large).map((field) => this.#copy(field.start, field.end)),
      entry('location', ownFile),
      entry('offset', String(from)),
      entry('length', String(end - from)),
      varints(dataLocation * 8 + varintType, 1),
    ])
  }

  #staysInFile({ id, wire, from, end }: WireField, fields: WireField[]): boolean {
    if (wire !== delimited || end - from <= this.#limits.inlineBytes) return false
    if (id === rawData) return true
    const alike = rawAlike[id]
    if (!alike || (end - from) % alike.bytes !== 0) return false
    const same = fields.filter((field) => field.id === id).length
    const typed = fields.find((field) => field.id === dataType)
    return (
      same === 1 && typed?.wire === varintType && this.#varint(typed.from, typed.end).value === alike.dataType
    )
  }

  /** Numbers that are packed into one field. */
  #countNumbers({ type, repeated }: protobuf.Field, { wire, from, end }: WireField): void {
    const packed = repeated && wire === delimited && type !== 'string' && type !== 'bytes'
    if (packed) this.#count(fixedTypes.has(type) ? (end - from) / 4 : end - from)
  }

  #copy(from: number, end: number): Uint8Array {
    this.#bytes += end - from
    if (this.#bytes > this.#limits.graphBytes)
      throw new WireError(
        `has more than ${this.#limits.graphBytes / 2 ** 20} MB beside its tensors' raw data`,
      )
    return this.#slice(from, end - from)
  }

  *#fields(from: number, end: number): Generator<WireField> {
    for (let at = from; at < end; ) {
      this.#count(1)
      const field = this.#fieldAt(at, end)
      yield field
      at = field.end
    }
  }

  #fieldAt(start: number, end: number): WireField {
    const { value: key, end: from } = this.#varint(start, end)
    const id = Math.floor(key / 8)
    const wire = key % 8
    if (id === 0 || key >= 2 ** 32) throw new WireError('is no ONNX model')
    if (wire === varintType) return { id, wire, start, from, end: this.#varint(from, end).end }
    if (wire === fixed64) return { id, wire, start, from, end: within(from + 8, end) }
    if (wire === fixed32) return { id, wire, start, from, end: within(from + 4, end) }
    if (wire !== delimited) throw new WireError('is no ONNX model')
    const length = this.#varint(from, end)
    return { id, wire, start, from: length.end, end: within(length.end + length.value, end) }
  }

  #varint(from: number, end: number): { value: number; end: number } {
    let value = 0
    for (let i = 0; i < 10; i++) {
      if (from + i >= end) throw cutShort()
      const byte = this.#byte(from + i)
      value += (byte & 127) * 2 ** (7 * i)
      if (byte < 128) return { value, end: from + i + 1 }
    }
    throw new WireError('is no ONNX model')
  }

  #byte(at: number): number {
    const place = this.#show(at, 1)
    return this.#window[place]!
  }

  #slice(at: number, length: number): Uint8Array {
    if (length <= windowBytes) {
      const place = this.#show(at, length)
      return this.#window.slice(place, place + length)
    }
    const bytes = new Uint8Array(length)
    this.#source.read(at, bytes)
    return bytes
  }

  /** Moves the window where it is needed; the offset in it. */
  #show(at: number, length: number): number {
    const place = at - this.#windowStart
    if (place >= 0 && place + length <= this.#window.length) return place
    this.#window = this.#buffer.subarray(0, Math.min(windowBytes, this.#source.size - at))
    this.#source.read(at, this.#window)
    this.#windowStart = at
    return 0
  }

  #count(items: number): void {
    this.#items += items
    if (this.#items > this.#limits.items)
      throw new WireError(`has more than ${this.#limits.items} fields, values and names in its graph`)
  }
}

const windowBytes = 16 * 1024

/** Fields of TensorProto. */
const dataType = 2
const rawData = 9
const externalData = 13
const dataLocation = 14

const cutShort = () => new WireError('is cut short')

function within(at: number, end: number): number {
  if (at > end) throw cutShort()
  return at
}

const entry = (key: string, value: string): Uint8Array =>
  protobuf.Writer.create()
    .uint32(externalData * 8 + delimited)
    .fork()
    .uint32(8 + delimited)
    .string(key)
    .uint32(16 + delimited)
    .string(value)
    .ldelim()
    .finish()

const varints = (...values: number[]): Uint8Array =>
  values.reduce((writer, value) => writer.uint32(value), protobuf.Writer.create()).finish()

function join(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
