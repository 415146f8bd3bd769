import { closeSync, fstatSync, openSync, readSync, realpathSync, statSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { decodeModel, type ModelProto, type TensorProto } from './proto.ts'
import { tensorBytes } from './tensors.ts'
import { allTensors } from './visit.ts'
import { ModelFolderError } from './weights.ts'
import { type ByteSource, leanModel, ownFile, WireError, type WireLimits } from './wire.ts'

export interface ReadOptions extends WireLimits {
  /** Folder that the locations of external data will be relative to; default: the file's own. */
  folder?: string
}

/**
 * Reads an `.onnx` file without its weights: initializers above 1 KB are external data that points into the file, or
 * where the file says. All locations are checked to lie in the folder, and all tensors to lie in their files.
 * @throws ModelFolderError when the file is missing, cut short or malformed, or points outside
 * @example const model = readOnnx('model/onnx/decoder_model_merged.onnx')
 */
export function readOnnx(file: string, options: ReadOptions = {}): ModelProto {
  const lean = readLean(file, options)
  const model = decode(file, lean)
  // For training only, and not checked here.
  delete (model as { trainingInfo?: unknown }).trainingInfo
  const root = resolve(options.folder ?? dirname(file))
  const data = new ExternalFiles(file, root)
  for (const tensor of allTensors(model)) data.check(tensor)
  return model
}

function readLean(file: string, limits: WireLimits): Uint8Array {
  // What is no file, a pipe for instance, could keep an open waiting for ever.
  if (!statSync(file, { throwIfNoEntry: false })?.isFile())
    throw new ModelFolderError(`${file} is missing. Pull the model again.`)
  let descriptor: number | undefined
  try {
    descriptor = openSync(file, 'r')
    return leanModel(fileSource(descriptor), limits)
  } catch (cause) {
    if (cause instanceof WireError)
      throw new ModelFolderError(`${file} ${cause.message}. Pull the model again.`, { cause })
    throw new ModelFolderError(`${file} cannot be read.`, { cause })
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

function fileSource(descriptor: number): ByteSource {
  return {
    size: fstatSync(descriptor).size,
    read(offset, into) {
      for (let done = 0; done < into.length; ) {
        const read = readSync(descriptor, into, done, into.length - done, offset + done)
        if (read === 0) throw new WireError('is cut short')
        done += read
      }
    },
  }
}

function decode(file: string, lean: Uint8Array): ModelProto {
  const malformed = (why: string, cause?: unknown) =>
    new ModelFolderError(`${file} ${why}. Pull the model again.`, { cause })
  let model: ModelProto
  try {
    model = decodeModel(lean)
  } catch (cause) {
    throw malformed('is no ONNX model', cause)
  }
  if (!model.graph?.node?.length) throw malformed('is no ONNX model')
  return model
}

const wholeNumber = /^\d{1,16}$/

/** Files with the bytes of a model's tensors. */
class ExternalFiles {
  readonly #file: string
  readonly #root: string
  /** By location: size in bytes, and the path from the root. */
  readonly #known = new Map<string, { size: number; path: string }>()
  #claimed = 0

  constructor(file: string, root: string) {
    this.#file = file
    this.#root = root
  }

  /** Checks where a tensor's bytes are, and writes the location as a path from the root. */
  check(tensor: TensorProto): void {
    const expected = tensorBytes(tensor)
    if (expected === undefined) throw this.#bad(tensor, 'has sizes that cannot be')
    if (tensor.dataLocation === 1) this.#checkExternal(tensor, expected)
    else this.#checkInline(tensor, expected)
  }

  #checkExternal(tensor: TensorProto, expected: number): void {
    const {
      location = '',
      offset = '0',
      length,
    } = Object.fromEntries((tensor.externalData ?? []).map(({ key, value }) => [key, value]))
    if (!wholeNumber.test(offset) || (length !== undefined && !wholeNumber.test(length)))
      throw this.#bad(tensor, 'has an offset or a length that is no number')
    const bytes = length === undefined ? expected : Number(length)
    if (bytes !== expected) throw this.#bad(tensor, `has ${bytes} bytes instead of ${expected}`)
    const { size, path } = this.#locate(tensor, location)
    if (Number(offset) + bytes > size) throw this.#bad(tensor, `is cut short in ${path}`)
    this.#claim(tensor, bytes)
    tensor.externalData = Object.entries({ location: path, offset, length: String(bytes) }).map(
      ([key, value]) => ({ key, value }),
    )
  }

  #checkInline(tensor: TensorProto, expected: number): void {
    if (tensor.rawData?.length && tensor.rawData.length !== expected)
      throw this.#bad(tensor, `has ${tensor.rawData.length} bytes instead of ${expected}`)
  }

  /** Tensors may share bytes, but not so many that a small file becomes a large model. */
  #claim(tensor: TensorProto, bytes: number): void {
    this.#claimed += bytes
    const there = [...this.#known.values()].reduce((sum, { size }) => sum + size, 0)
    if (this.#claimed > 4 * there) throw this.#bad(tensor, 'shares its bytes with too many others')
  }

  #locate(tensor: TensorProto, location: string): { size: number; path: string } {
    const known = this.#known.get(location)
    if (known) return known
    const found = this.#find(tensor, location)
    this.#known.set(location, found)
    return found
  }

  #find(tensor: TensorProto, location: string): { size: number; path: string } {
    const file = location === ownFile ? this.#self() : this.#inside(tensor, location)
    const stat = statSync(file, { throwIfNoEntry: false })
    if (!stat?.isFile())
      throw new ModelFolderError(`${file} is missing: ${this.#file} has tensors in it. Pull the model again.`)
    return { size: stat.size, path: relative(this.#root, file).split(sep).join('/') }
  }

  #self(): string {
    const file = resolve(this.#file)
    if (!isOutside(this.#root, file)) return file
    throw new ModelFolderError(
      `${this.#file} is a link to a file outside of ${this.#root}. Copy the folder with its files: cp -rL.`,
    )
  }

  #inside(tensor: TensorProto, location: string): string {
    const home = dirname(resolve(this.#file))
    const segments = location.split('/')
    const escapes =
      location === '' ||
      isAbsolute(location) ||
      /[\\\0:]/.test(location) ||
      segments.includes('..') ||
      isOutside(this.#root, join(home, location))
    if (escapes) throw this.#bad(tensor, `is in ${JSON.stringify(location)}, outside of the model's folder`)
    return join(home, location)
  }

  #bad({ name }: TensorProto, why: string): ModelFolderError {
    return new ModelFolderError(
      `${this.#file}: tensor ${JSON.stringify((name ?? '').slice(0, 100))} ${why}. Pull the model again.`,
    )
  }
}

/** Links are followed: the file that would be read counts. */
function isOutside(root: string, file: string): boolean {
  const there = statSync(file, { throwIfNoEntry: false })
  const way = there ? relative(realpathSync(root), realpathSync(file)) : relative(root, file)
  return way === '' || way.startsWith('..') || isAbsolute(way)
}
