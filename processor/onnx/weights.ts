import { access } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Graph } from './graph.ts'
import type { Float, Value } from './operators.ts'
import { readSafetensorsHeader, SafetensorsError, type TensorLocation } from './safetensors.ts'

/** Incomplete or invalid model folder; the message names the remedy. */
export class ModelFolderError extends Error {
  override readonly name = 'ModelFolderError'
  readonly retriable = false
}

const graphTypes = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const

/**
 * Weights of a model: tensors become external data that points into the safetensors file, so a graph is kilobytes and
 * nothing is copied.
 */
export class Weights {
  readonly #file: string
  readonly #tensors: Map<string, TensorLocation>

  constructor(file: string, tensors: Map<string, TensorLocation>) {
    this.#file = file
    this.#tensors = tensors
  }

  /** @throws ModelFolderError when the file is missing, split into several, or malformed. */
  static async open(file: string): Promise<Weights> {
    try {
      return new Weights(file, await readSafetensorsHeader(file))
    } catch (cause) {
      if (cause instanceof SafetensorsError) throw new ModelFolderError(cause.message, { cause })
      throw new ModelFolderError(await whyUnreadable(file), { cause })
    }
  }

  /** @throws ModelFolderError when the tensor is missing, has another shape or no float type. */
  check(name: string, shape: number[]): void {
    const tensor = this.#tensors.get(name)
    if (!tensor)
      throw new ModelFolderError(
        `${this.#file} lacks the tensor ${name} [${shape.join(', ')}]. Is it a complete BLIP captioning model?`,
      )
    if (tensor.shape.join() !== shape.join())
      throw new ModelFolderError(
        `${this.#file}: tensor ${name} has shape [${tensor.shape.join(', ')}], but config.json asks for [${shape.join(', ')}].`,
      )
    if (!(tensor.type in graphTypes))
      throw new ModelFolderError(
        `${this.#file}: tensor ${name} has type ${tensor.type}; F32, F16 and BF16 can be used.`,
      )
  }

  /** The tensor as a value of the graph, computed in `as`; another storage type is cast when the session loads. */
  load<F extends Float['type']>(g: Graph, name: string, shape: number[], as: F): Value<F> {
    return this.loadParts(g, name, shape, 1, as)[0]!
  }

  /** The tensor cut into `parts` of equal size along its first axis; no byte is copied. */
  loadParts<F extends Float['type']>(
    g: Graph,
    name: string,
    shape: number[],
    parts: number,
    as: F,
  ): Value<F>[] {
    this.check(name, shape)
    const { type, offset, length } = this.#tensors.get(name)!
    const [rows, ...rest] = shape as [number, ...number[]]
    return Array.from({ length: parts }, (_, part) => {
      const stored = g.external(graphTypes[type as keyof typeof graphTypes], [rows / parts, ...rest], {
        location: basename(this.#file),
        offset: offset + (part * length) / parts,
        length: length / parts,
      })
      return g.cast(stored, as)
    })
  }
}

async function whyUnreadable(file: string): Promise<string> {
  const isSplit = await access(`${file}.index.json`).then(
    () => true,
    () => false,
  )
  return isSplit
    ? `${file} is split into several files. Join them: save_pretrained(folder, max_shard_size="100GB") in Python.`
    : `${file} cannot be read. Pull the model again, or convert it: save_pretrained(folder, safe_serialization=True).`
}
