import { splitInvariant } from './invariant.ts'
import {
  type Attributes,
  type AttributeValue,
  type Bool,
  type Int,
  Operators,
  runtimeDomain,
  type Shape,
  type Value,
} from './operators.ts'
import {
  type AttributeProto,
  type DataType,
  dataTypes,
  encodeModel,
  type FunctionProto,
  type GraphProto,
  type NodeProto,
  type OperatorSetIdProto,
  type TensorProto,
  type ValueInfoProto,
} from './proto.ts'
import { namesRead } from './rewrite.ts'

/** Version of ONNX's operators that the builder writes. */
export const builderOpset = 20

/** What a graph needs that has parts of exported ones. */
export interface ModelOptions {
  /** Operator sets beside the builder's own; the newer version of each counts. */
  opsets?: OperatorSetIdProto[]
  irVersion?: number
  functions?: FunctionProto[]
}

/** Names and initializers that every scope of one model shares. */
interface Model {
  /** What generated names begin with. */
  prefix: string
  names: number
  initializers: TensorProto[]
  /** Names of tensors of exported graphs. */
  shared: Set<string>
}

/**
 * Builder of an ONNX graph, one call per operator; values carry their element type. Branches and loop bodies are graphs
 * that see the values of the graph around them.
 *
 * @example
 * const g = new Graph()
 * const x = g.input('x', 'float32', ['B', 4])
 * g.output('y', g.softmax(x), ['B', 4])
 * const bytes = g.toModel()
 */
export class Graph extends Operators {
  readonly #model: Model
  /** Branches and loop bodies have a graph around them. */
  readonly #isBody: boolean
  #nodes: NodeProto[] = []
  readonly #constants = new Map<string, Value>()
  /** Small tensors of a body: each that it took from around it would be handed over in every run. */
  #tensors: TensorProto[] = []
  readonly #inputs: ValueInfoProto[] = []
  readonly #outputs: ValueInfoProto[] = []

  /** @param prefix of generated names, for nodes that are put into a graph that has names of its own */
  constructor(parent?: Graph, prefix = '') {
    super()
    this.#model = parent ? parent.#model : { prefix, names: 0, initializers: [], shared: new Set() }
    this.#isBody = parent !== undefined
  }

  input<T extends DataType>(name: string, type: T, shape: Shape): Value<T> {
    this.#inputs.push(valueInfo(name, type, shape))
    return { name, type }
  }

  /**
   * Declares a value as an output. In a branch or a loop body outputs count by their order, so a value computed there
   * keeps its name: renaming would copy it.
   */
  output(name: string, value: Value, shape: Shape): void {
    if (
      this.#isBody &&
      this.#computed(value) &&
      !this.#outputs.some((output) => output.name === value.name)
    ) {
      this.#outputs.push(valueInfo(value.name, value.type, shape))
      return
    }
    this.#nodes.push({ opType: 'Identity', input: [value.name], output: [name], name })
    this.#outputs.push(valueInfo(name, value.type, shape))
  }

  /** Any operator; `types` are the element types of its outputs. */
  override op<T extends DataType[]>(
    opType: string,
    inputs: (Value | undefined)[],
    types: [...T],
    attributes: Attributes = {},
    domain = '',
  ): { [K in keyof T]: Value<T[K]> } {
    const output = types.map(() => this.uniqueName(opType))
    this.#nodes.push({
      opType,
      input: inputs.map((value) => value?.name ?? ''),
      output,
      name: output[0]!,
      domain,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    })
    return output.map((name, i) => ({ name, type: types[i]! })) as { [K in keyof T]: Value<T[K]> }
  }

  /** Tensor stored in the graph. */
  initializer<T extends DataType>(type: T, dims: number[], data: ArrayBufferView): Value<T> {
    const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const name = this.uniqueName('const')
    const tensors = this.#isBody ? this.#tensors : this.#model.initializers
    tensors.push({ name, dataType: dataTypes[type], dims, rawData })
    return { name, type }
  }

  /** Tensor whose bytes are in a file beside the graph. */
  external<T extends DataType>(
    type: T,
    dims: number[],
    at: { location: string; offset: number; length: number },
  ): Value<T> {
    const externalData = Object.entries(at).map(([key, value]) => ({ key, value: String(value) }))
    const name = this.uniqueName('weight')
    this.#model.initializers.push({ name, dataType: dataTypes[type], dims, dataLocation: 1, externalData })
    return { name, type }
  }

  /** An int64 constant: a number is a scalar, a list a vector. Equal ones of a graph are stored once. */
  override ints(values: number | number[]): Int {
    return this.#constant(`int64 ${JSON.stringify(values)}`, () => {
      const list = typeof values === 'number' ? [values] : values
      const dims = typeof values === 'number' ? [] : [list.length]
      return this.initializer('int64', dims, BigInt64Array.from(list, BigInt))
    })
  }

  /** A float32 constant, scalar or vector, or of the shape given. */
  override floats(values: number | number[], dims?: number[]): Value<'float32'> {
    return this.#constant(`float32 ${JSON.stringify([values, dims])}`, () => {
      const list = typeof values === 'number' ? [values] : values
      const shape = dims ?? (typeof values === 'number' ? [] : [list.length])
      return this.initializer('float32', shape, Float32Array.from(list))
    })
  }

  /** A uint8 constant, scalar. */
  override bytes(value: number): Value<'uint8'> {
    return this.#constant(`uint8 ${value}`, () => this.initializer('uint8', [], Uint8Array.of(value)))
  }

  /** Runs one of two branches, by a condition of one element; both declare the same outputs, in the same order. */
  branch<T extends DataType[]>(
    condition: Bool,
    types: [...T],
    ifTrue: (g: Graph) => void,
    ifFalse: (g: Graph) => void,
  ) {
    return this.op('If', [condition], types, {
      then_branch: { graph: this.#body(ifTrue) },
      else_branch: { graph: this.#body(ifFalse) },
    })
  }

  /**
   * Loops at most `trips` times. The body declares the inputs iteration, condition and one for each of `carried`, and
   * the outputs condition, the carried values and then one for each scan; `types` are those of the results:
   * final carried values, and scans stacked along a new first axis.
   */
  loop<T extends DataType[]>(trips: Int, carried: Value[], types: [...T], body: (g: Graph) => void) {
    return this.op('Loop', [trips, undefined, ...carried], types, { body: { graph: this.#body(body) } })
  }

  /** Adds nodes of an exported graph as they are; no other value of the model may have their names. */
  append(nodes: NodeProto[]): void {
    this.#nodes.push(...nodes)
  }

  /** Adds a tensor of an exported graph as it is, once for each name. */
  share(tensor: TensorProto): void {
    if (this.#model.shared.has(tensor.name)) return
    this.#model.shared.add(tensor.name)
    this.#model.initializers.push(tensor)
  }

  /** Gives a value a name that another graph knows. */
  alias(value: Value, name: string): void {
    this.#nodes.push({ opType: 'Identity', input: [value.name], output: [name], name })
  }

  /** Inputs declared so far. */
  get inputs(): readonly ValueInfoProto[] {
    return this.#inputs
  }

  /** Nodes since the last call, to be put into another graph. */
  takeNodes(): NodeProto[] {
    const nodes = this.#nodes
    this.#nodes = []
    return nodes
  }

  /** Takes out of a loop's body what gives the same in every round, to be put before the loop; its constants go with it. */
  takeInvariant(): NodeProto[] {
    const own = this.#tensors
    const { once, everyRound } = splitInvariant(this.#nodes, {
      changing: this.#inputs.map(({ name }) => name),
      given: this.#outputs.map(({ name }) => name),
      constants: new Set([...this.#model.initializers, ...own].map(({ name }) => name)),
    })
    const read = new Set(once.flatMap(namesRead))
    this.#model.initializers.push(...own.filter(({ name }) => read.has(name)))
    this.#tensors = own.filter(({ name }) => !read.has(name))
    this.#nodes = everyRound
    return once
  }

  /** Tensors that the nodes of this graph use, and those that its bodies share with it. */
  get initializers(): TensorProto[] {
    return this.#model.initializers
  }

  /** Encodes the model as an `.onnx` file. */
  toModel({ opsets = [], irVersion = 9, functions = [] }: ModelOptions = {}): Uint8Array {
    const versions = new Map([
      ['', builderOpset],
      [runtimeDomain, 1],
    ])
    for (const { domain = '', version } of opsets)
      versions.set(domain, Math.max(version, versions.get(domain) ?? 0))
    return encodeModel({
      irVersion: Math.max(irVersion, 9),
      producerName: 'turbine',
      opsetImport: [...versions].map(([domain, version]) => ({ domain, version })),
      graph: { ...this.#toGraph('graph'), initializer: this.#model.initializers },
      functions,
    })
  }

  #computed({ name }: Value): boolean {
    return this.#nodes.some(({ output }) => output.includes(name))
  }

  #body(build: (g: Graph) => void): GraphProto {
    const g = new Graph(this)
    build(g)
    return g.#toGraph(this.uniqueName('body'))
  }

  #toGraph(name: string): GraphProto {
    const tensors = this.#tensors.length > 0 && { initializer: this.#tensors }
    return { name, node: this.#nodes, input: this.#inputs, output: this.#outputs, ...tensors }
  }

  #constant<V extends Value>(key: string, make: () => V): V {
    const known = this.#constants.get(key)
    if (known) return known as V
    const value = make()
    this.#constants.set(key, value)
    return value
  }

  /** A name that no other value of the model has. */
  uniqueName(prefix: string): string {
    return `${this.#model.prefix}${prefix}_${this.#model.names++}`
  }
}

function valueInfo(name: string, type: DataType, shape: Shape): ValueInfoProto {
  const dim = shape.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }))
  return { name, type: { tensorType: { elemType: dataTypes[type], shape: { dim } } } }
}

function attribute(name: string, value: AttributeValue): AttributeProto {
  if (Array.isArray(value)) return { name, type: 7, ints: value }
  if (typeof value === 'number') return { name, type: 2, i: value }
  if (typeof value === 'string') return { name, type: 3, s: new TextEncoder().encode(value) }
  if ('graph' in value) return { name, type: 5, g: value.graph }
  return { name, type: 1, f: value.float }
}
