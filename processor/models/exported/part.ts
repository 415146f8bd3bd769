import { domainOf } from '../../onnx/attributes.ts'
import { builderOpset, type Graph, type ModelOptions } from '../../onnx/graph.ts'
import type { Value } from '../../onnx/operators.ts'
import { convertOpset, OpsetError, opsetOf } from '../../onnx/opset.ts'
import { sortNodes } from '../../onnx/order.ts'
import {
  type DataType,
  dataTypes,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../../onnx/proto.ts'
import { type ReadOptions, readOnnx } from '../../onnx/read.ts'
import { dropAnnotations, producersOf, renameGraph } from '../../onnx/rewrite.ts'
import { allNodes } from '../../onnx/visit.ts'
import { ModelFolderError } from '../../onnx/weights.ts'

/** An input or output of an exported session. */
export interface Port {
  name: string
  type: DataType
  /** Sizes; a string names one known at run time. */
  dims: (number | string)[]
}

/** Newest version of ONNX's operators that the runtime is tried with. */
const newestOpset = 26

/**
 * One file of an exported model, to be put into a graph: its nodes can be added several times under different names,
 * its weights once.
 */
export class ExportedPart {
  readonly file: string
  readonly inputs: ReadonlyMap<string, Port>
  readonly outputs: ReadonlyMap<string, Port>
  /** Begins the names of its weights. */
  readonly #tag: string
  #model: ModelProto

  /** @throws ModelFolderError */
  constructor(file: string, tag: string, options: ReadOptions = {}) {
    this.file = file
    this.#tag = tag
    this.#model = readOnnx(file, options)
    dropAnnotations(this.#model)
    sortNodes(this.#model.graph)
    const { graph } = this.#model
    const weights = new Set(graph.initializer?.map(({ name }) => name))
    // Old files list weights among the inputs.
    this.inputs = this.#ports(graph.input.filter(({ name }) => !weights.has(name)))
    this.outputs = this.#ports(graph.output)
  }

  get model(): ModelProto {
    return this.#model
  }

  get graph(): GraphProto {
    return this.#model.graph
  }

  /** Writes it for a newer version of ONNX's operators. @throws ModelFolderError when that is not known for one of them */
  convert(opset: number): void {
    try {
      this.#model = convertOpset(this.#model, opset)
    } catch (error) {
      if (!(error instanceof OpsetError)) throw error
      this.fail(`${error.message}. Export the model again with opset ${opset}.`)
    }
  }

  /** @throws ModelFolderError that names the file */
  fail(why: string): never {
    throw new ModelFolderError(`${this.file} ${why}`)
  }

  /** @throws ModelFolderError when it has no such input */
  input(name: string): Port {
    return (
      this.inputs.get(name) ??
      this.fail(`has no input ${name}. Is it a ${name === 'input_ids' ? 'text' : 'decoder'} session?`)
    )
  }

  /** @throws ModelFolderError when it has no such output */
  output(name: string): Port {
    return this.outputs.get(name) ?? this.fail(`has no output ${name}. Export the model again.`)
  }

  /**
   * Adds the nodes of its graph, or of a branch in it, to a graph: inputs are the values of `bind`, other names begin
   * with `prefix`.
   * @returns what the values of the part are called there
   */
  inline(
    g: Graph,
    prefix: string,
    bind: Record<string, Value>,
    graph: GraphProto = this.graph,
  ): (name: string) => string {
    const weights = new Map<string, TensorProto>()
    const take = (tensors: TensorProto[] = [], scope: string) => {
      for (const tensor of tensors)
        weights.set(tensor.name, { ...tensor, name: `${this.#tag}:${scope}${tensor.name}` })
    }
    take(this.graph.initializer, '')
    // Two branches may have the same name for different weights.
    if (graph !== this.graph) take(graph.initializer, prefix)
    const named = (name: string) =>
      Object.hasOwn(bind, name) ? bind[name]!.name : (weights.get(name)?.name ?? prefix + name)
    const { node, sparseInitializer = [] } = renameGraph({ ...graph, initializer: [] }, named)
    if (sparseInitializer.length > 0)
      this.fail('has sparse weights, which cannot be joined. Export the model again.')
    for (const tensor of weights.values()) g.share(tensor)
    g.append(node)
    return named
  }

  /** Kinds of operators in all of its graphs. */
  operators(): Set<string> {
    return operatorsOf(this.model)
  }

  producers(): Map<string, NodeProto> {
    return producersOf(this.graph)
  }

  #ports(infos: ValueInfoProto[]): Map<string, Port> {
    return new Map(infos.map((info) => [info.name, this.#port(info)]))
  }

  #port({ name, type }: ValueInfoProto): Port {
    const tensor = type?.tensorType
    const known = Object.entries(dataTypes).find(([, number]) => number === tensor?.elemType)
    if (!tensor || !known)
      return this.fail(`has an input or output ${JSON.stringify(name)} of a type that cannot be used.`)
    const dims = (tensor.shape?.dim ?? []).map(
      ({ dimValue, dimParam }, i) => dimValue ?? (dimParam || `${name}.${i}`),
    )
    return { name, type: known[0] as DataType, dims }
  }
}

const operatorsOf = (model: ModelProto) => new Set([...allNodes(model)].map(({ opType }) => opType))

/** Operators that quantise activations with one scale for a whole tensor. */
const wholeScales = ['DynamicQuantizeLinear', 'DynamicQuantizeMatMul', 'MatMulIntegerToFloat']

/** False when a row's values depend on its neighbours. */
export const isBatchInvariant = (...models: ModelProto[]): boolean =>
  models.every((model) => wholeScales.every((name) => !operatorsOf(model).has(name)))

/**
 * Writes parts for one version of ONNX's operators, so that they can be in one graph.
 * @returns what the joint graph needs to be told
 * @throws ModelFolderError when that is not known for one of their operators
 */
export function joinOpsets(parts: ExportedPart[]): ModelOptions {
  const to = Math.max(builderOpset, ...parts.map(({ model }) => opsetOf(model)))
  if (to > newestOpset)
    parts
      .find(({ model }) => opsetOf(model) === to)!
      .fail(
        `uses version ${to} of ONNX's operators; up to ${newestOpset} can be used. Export the model again.`,
      )
  for (const part of parts) part.convert(to)
  const functions = parts.flatMap(({ model }) => model.functions ?? [])
  const ids = functions.map(({ domain = '', name, overload = '' }) => `${domain} ${name} ${overload}`)
  if (new Set(ids).size < ids.length)
    parts[0]!.fail('and another file of the model have functions of the same name. Export the model again.')
  return {
    opsets: parts.flatMap(({ model }) =>
      model.opsetImport.map((each) => ({ domain: domainOf(each), version: each.version })),
    ),
    irVersion: Math.max(...parts.map(({ model }) => model.irVersion)),
    functions,
  }
}
