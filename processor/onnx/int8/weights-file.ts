import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { privateDirectory, privateFile } from '../../../infra/durable.ts'
import { type DataType, dataTypes, type TensorProto } from '../proto.ts'
import { tensorBytes } from '../tensors.ts'
import { ModelFolderError } from '../weights.ts'
import type { Int8Weight, StoredWeight } from './linear-layers.ts'
import { type MatrixPart, roundMatrix, toFloat32 } from './round.ts'

/** Bytes of a tensor in a file. */
interface StoredBytes {
  file: string
  offset: number
  length: number
}

/** Part of a weights file: bytes as they are, or a rounded weight and its scales behind it. */
type Entry =
  | { copy: StoredBytes }
  | { parts: StoredMatrix[]; outputsFirst: boolean; to: number; from: number }

interface StoredMatrix extends StoredBytes {
  dataType: number
  rows: number
  columns: number
}

/** Where a tensor's bytes are, as ONNX has it. */
type Place = NonNullable<TensorProto['externalData']>

/** Version of what is written; another one for other contents of the same tensors. */
const version = 1
const location = 'weights.bin'
/** What ONNX Runtime maps into memory lies on such multiples. */
const alignment = 64
const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment

/** One file with the weights of a model's graphs: linear layers in int8, other tensors as they were. */
export class Int8WeightsFile {
  readonly #range: number
  readonly #entries: Entry[] = []
  readonly #known = new Map<string, Int8Weight | Place>()
  #bytes = 0

  /** @param range largest whole number of a weight */
  constructor(range: number) {
    this.#range = range
  }

  /** The int8 form of a weight whose tensors are in files of `folder`. */
  round(folder: string, { parts, outputsFirst }: StoredWeight): Int8Weight {
    const matrices = parts.map((tensor): StoredMatrix => {
      const [rows, columns] = tensor.dims as [number, number]
      return { ...storedBytes(folder, tensor), dataType: tensor.dataType, rows, columns }
    })
    const rows = matrices.reduce((sum, part) => sum + part.rows, 0)
    const [{ columns }] = matrices as [StoredMatrix]
    const [to, from] = outputsFirst ? [rows, columns] : [columns, rows]
    return this.#once(JSON.stringify([matrices, outputsFirst]), () => {
      const name = `int8/weight${this.#entries.length}`
      this.#entries.push({ parts: matrices, outputsFirst, to, from })
      return {
        values: this.#place(name, 'int8', [from, to]),
        scales: this.#place(`${name}.scales`, 'float32', [to]),
      }
    })
  }

  /** A tensor in a file of `folder`, of the bytes as they are. */
  copy(folder: string, tensor: TensorProto): TensorProto {
    const bytes = storedBytes(folder, tensor)
    const placed = this.#once(JSON.stringify(bytes), () => {
      this.#entries.push({ copy: bytes })
      return this.#allocate(bytes.length)
    })
    return { ...tensor, externalData: placed }
  }

  /**
   * The folder of the file, which is written if it is not there yet.
   * @param cache folder of the user's own
   * @throws ModelFolderError when there is no room or no right for it
   */
  async write(cache: string): Promise<string> {
    const folder = join(cache, await this.#identity())
    const file = join(folder, location)
    const { size } = (await stat(file).catch(() => undefined)) ?? {}
    if (size === this.#bytes) return folder
    const part = `${file}.${randomUUID()}.part`
    try {
      await mkdir(folder, { recursive: true, mode: privateDirectory })
      await this.#writeTo(part)
      await rename(part, file)
    } catch (cause) {
      await rm(part, { force: true }).catch(() => {})
      if (cause instanceof ModelFolderError) throw cause
      throw new ModelFolderError(
        `The weights in int8 cannot be written to ${cache}: ${(cause as Error).message}. Set XDG_CACHE_HOME to a folder with ${Math.ceil(this.#bytes / 2 ** 20)} MiB.`,
        { cause },
      )
    }
    return folder
  }

  async #writeTo(path: string): Promise<void> {
    const target = await open(path, 'wx', privateFile)
    const files = new OpenFiles()
    let at = 0
    const put = async (bytes: Uint8Array) => {
      await target.write(bytes, 0, bytes.length, at)
      at += aligned(bytes.length)
    }
    try {
      for (const entry of this.#entries) {
        if ('copy' in entry) await put(await files.read(entry.copy))
        else for (const bytes of await this.#rounded(entry, files)) await put(bytes)
      }
      await target.truncate(this.#bytes)
      await target.sync()
    } finally {
      await files.close()
      await target.close()
    }
  }

  async #rounded(entry: Exclude<Entry, { copy: unknown }>, files: OpenFiles): Promise<Uint8Array[]> {
    const { parts, outputsFirst, to, from } = entry
    const read: MatrixPart[] = []
    for (const part of parts) {
      const { rows, columns } = part
      read.push({ rows, columns, elements: toFloat32(await files.read(part), part.dataType) })
    }
    const { values, scales } = roundMatrix(read, { outputsFirst, to, from, most: this.#range })
    return [new Uint8Array(values.buffer), new Uint8Array(scales.buffer)]
  }

  /** Names the contents: another one for other tensors, or files that changed. */
  async #identity(): Promise<string> {
    const files = new Set(
      this.#entries
        .flatMap((entry) => ('copy' in entry ? [entry.copy] : entry.parts))
        .map(({ file }) => file),
    )
    const states = await Promise.all(
      [...files].map(async (file) => {
        const { size, mtimeMs, ino } = await stat(file)
        return [file, size, mtimeMs, ino]
      }),
    )
    const identity = JSON.stringify([version, this.#range, this.#entries, states])
    return createHash('sha256').update(identity).digest('hex').slice(0, 32)
  }

  #once<T extends Int8Weight | Place>(key: string, make: () => T): T {
    const known = this.#known.get(key)
    if (known) return known as T
    const made = make()
    this.#known.set(key, made)
    return made
  }

  #place(name: string, type: DataType, dims: number[]): TensorProto {
    const tensor: TensorProto = { name, dataType: dataTypes[type], dims }
    return { ...tensor, dataLocation: 1, externalData: this.#allocate(tensorBytes(tensor)!) }
  }

  /** Where the next so many bytes will be. */
  #allocate(length: number): Place {
    const offset = this.#bytes
    this.#bytes += aligned(length)
    return Object.entries({ location, offset, length }).map(([key, value]) => ({ key, value: String(value) }))
  }
}

function storedBytes(folder: string, { externalData = [] }: TensorProto): StoredBytes {
  const {
    location: path,
    offset = '0',
    length,
  } = Object.fromEntries(externalData.map(({ key, value }) => [key, value]))
  return { file: join(folder, path!), offset: Number(offset), length: Number(length) }
}

/** Files that are read from, each opened once. */
class OpenFiles {
  readonly #handles = new Map<string, FileHandle>()

  async read({ file, offset, length }: StoredBytes): Promise<Uint8Array> {
    const handle = this.#handles.get(file) ?? (await open(file))
    this.#handles.set(file, handle)
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length; ) {
      const { bytesRead } = await handle.read(bytes, done, length - done, offset + done)
      if (bytesRead === 0) throw new ModelFolderError(`${file} is cut short. Pull the model again.`)
      done += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    for (const handle of this.#handles.values()) await handle.close()
  }
}
