import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { neededNodes } from './order.ts'
import { encodeModel, type ModelProto, type NodeProto } from './proto.ts'
import { openSession, runsFewTimes } from './session.ts'

/** Inputs of one run, by name. */
export type Feeds = Record<string, Tensor>

/** Elements of a small tensor. */
export interface Small {
  type: Tensor.Type
  dims: readonly number[]
  data: number[]
}

/**
 * Runs a model to learn about the tensors inside: sizes and small values leave the session, never the tensors
 * themselves, so that it costs little more memory than a plain run.
 */
export class Probe {
  readonly #model: ModelProto
  readonly #feeds: Feeds
  readonly #folder: string

  /** @param folder that external data is relative to */
  constructor(model: ModelProto, feeds: Feeds, folder: string) {
    this.#model = model
    this.#feeds = feeds
    this.#folder = folder
  }

  /** Sizes of every tensor that a node of the main graph makes, of the initializers and of the inputs. */
  async shapes(): Promise<Map<string, readonly number[]>> {
    const { graph } = this.#model
    const names = graph.node.flatMap(({ output }) => output.filter((name) => name !== ''))
    const sizes = await this.#sizes(names)
    return new Map<string, readonly number[]>([
      ...Object.entries(this.#feeds).map(([name, { dims }]) => [name, [...dims]] as const),
      ...(graph.initializer ?? []).map(({ name, dims }) => [name, dims.map(Number)] as const),
      ...names.map((name, i) => [name, sizes[i]!] as const),
    ])
  }

  /**
   * As one list, each size behind its number of axes, to which every tensor adds in turn: an output for each of them would
   * keep all tensors in memory until the last.
   */
  async #sizes(names: readonly string[]): Promise<number[][]> {
    if (names.length === 0) return []
    const list = (i: number) => `probe/list/${i}`
    const nodes = [
      ...names.map((name, i) => ({ opType: 'Shape', input: [name], output: [`probe/size/${i}`] })),
      ...names.map((_, i) => ({
        opType: 'Shape',
        input: [`probe/size/${i}`],
        output: [`probe/axes/${i}`],
      })),
      // Behind the others, for ONNX Runtime runs first what such a node reads of the last ones: the list so far.
      ...names.map((_, i) => ({
        opType: 'Concat',
        input: [...(i > 0 ? [list(i - 1)] : []), `probe/axes/${i}`, `probe/size/${i}`],
        output: [list(i)],
        attribute: [{ name: 'axis', type: 2, i: 0 }],
      })),
    ]
    const last = list(names.length - 1)
    const session = await this.#open([last], nodes)
    try {
      const results = await session.run(this.#feedsOf(session))
      const { data } = small(results[last]!)
      let at = 0
      return names.map(() => {
        const end = at + 1 + data[at]!
        const size = data.slice(at + 1, end)
        at = end
        return size
      })
    } finally {
      await session.release()
    }
  }

  /** Values of small tensors. */
  values(names: Iterable<string>): Promise<Map<string, Small>> {
    return this.#run([...names], (input, output) => [
      { opType: 'Identity', input: [input], output: [output] },
    ])
  }

  /** Element types of tensors; nothing runs for them. */
  async types(names: Iterable<string>): Promise<Map<string, Tensor.Type>> {
    const wanted = [...names]
    const session = await this.#open(wanted, [])
    try {
      return new Map(
        session.outputMetadata.flatMap((output) =>
          output.isTensor ? [[output.name, output.type] as const] : [],
        ),
      )
    } finally {
      await session.release()
    }
  }

  /** The largest magnitude in each tensor of numbers. */
  magnitudes(names: Iterable<string>): Promise<Map<string, Small>> {
    return this.#run([...names], (input, output) => [
      {
        opType: 'Cast',
        input: [input],
        output: [`${output}/float`],
        attribute: [{ name: 'to', type: 2, i: 1 }],
      },
      { opType: 'Abs', input: [`${output}/float`], output: [`${output}/abs`] },
      {
        opType: 'ReduceMax',
        input: [`${output}/abs`],
        output: [output],
        attribute: [{ name: 'keepdims', type: 2, i: 0 }],
      },
    ])
  }

  async #run(
    names: readonly string[],
    measure: (input: string, output: string) => NodeProto[],
  ): Promise<Map<string, Small>> {
    if (names.length === 0) return new Map()
    const outputs = names.map((_, i) => `probe/${i}`)
    const session = await this.#open(
      outputs,
      names.flatMap((name, i) => measure(name, outputs[i]!)),
    )
    try {
      const results = await session.run(this.#feedsOf(session))
      return new Map(names.map((name, i) => [name, small(results[outputs[i]!]!)]))
    } finally {
      await session.release()
    }
  }

  /** The part of the model that the outputs need, with more nodes. */
  #open(outputs: string[], nodes: NodeProto[]): Promise<InferenceSession> {
    const { graph } = this.#model
    const model: ModelProto = {
      ...this.#model,
      graph: {
        ...graph,
        valueInfo: [],
        node: neededNodes([...graph.node, ...nodes], outputs),
        output: outputs.map((name) => ({ name })),
      },
    }
    const bytes = encodeModel(model)
    const open = (graphOptimizationLevel: 'disabled' | 'basic') =>
      openSession(bytes, this.#folder, runsFewTimes({ graphOptimizationLevel, logSeverityLevel: 4 }))
    // Nothing runs twice, so optimising does not pay; but some files of half precision load in no other way.
    return open('disabled').catch(() => open('basic'))
  }

  #feedsOf({ inputNames }: InferenceSession): Feeds {
    return Object.fromEntries(Object.entries(this.#feeds).filter(([name]) => inputNames.includes(name)))
  }
}

function small({ type, dims, data }: Tensor): Small {
  return { type, dims, data: Array.from(data as ArrayLike<number | bigint | boolean>, Number) }
}
