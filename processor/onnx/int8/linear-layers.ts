import { floatOf, intOf, intsOf, isStandard } from '../attributes.ts'
import { Graph } from '../graph.ts'
import { runtimeDomain, type Value } from '../operators.ts'
import { dataTypes, type GraphProto, type ModelProto, type NodeProto, type TensorProto } from '../proto.ts'
import { producersOf } from '../rewrite.ts'
import { bodiesOf } from '../visit.ts'

/** Weight of a linear layer as it is stored: one matrix, or several, one below the other. */
export interface StoredWeight {
  parts: TensorProto[]
  /** `[to, from]`, as PyTorch has it; else `[from, to]`. */
  outputsFirst: boolean
}

/** The same in int8. */
export interface Int8Weight {
  /** `int8 [from, to]` */
  values: TensorProto
  /** `float32 [to]` */
  scales: TensorProto
}

/** Whole numbers of a row's activations are those of uint8 around this one, and this far from it. */
const zeroPoint = 128
const mostOfRow = 127
/** Rows of zeros have a scale too. */
const smallestScale = 2 ** -100

/**
 * Replaces products with stored float weights, in all scopes, by such of whole numbers. In place.
 *
 * Every row is rounded by its own largest number, and sums are of whole numbers, so that the result of a row is the same
 * whatever the other rows of a batch are. `DynamicQuantizeLinear` would round a whole batch by one scale.
 *
 * @param take gives the int8 form of a weight
 */
export function replaceLinearLayers(model: ModelProto, take: (weight: StoredWeight) => Int8Weight): void {
  const opset = model.opsetImport.find(isStandard)?.version ?? 1
  const replacing = new Replacing(take, opset)
  replacing.scope(model.graph, [])
  model.graph.initializer = [...(model.graph.initializer ?? []), ...replacing.tensors()]
  if (!model.opsetImport.some(({ domain }) => domain === runtimeDomain))
    model.opsetImport.push({ domain: runtimeDomain, version: 1 })
}

/** What can be known of names in a graph, seen from inside of it. */
interface Scope {
  tensors: Map<string, TensorProto>
  producers: Map<string, NodeProto>
}

/** Activations `[..., from]` as whole numbers, and the scale of every row, `[..., 1]`. */
interface Int8Rows {
  values: Value<'uint8'>
  scales: Value<'float32'>
}

class Replacing {
  readonly #take: (weight: StoredWeight) => Int8Weight
  readonly #opset: number
  readonly #g = new Graph(undefined, 'int8/')
  readonly #weights = new Map<string, TensorProto>()

  constructor(take: (weight: StoredWeight) => Int8Weight, opset: number) {
    this.#take = take
    this.#opset = opset
  }

  tensors(): TensorProto[] {
    return [...this.#weights.values(), ...this.#g.initializers]
  }

  scope(graph: GraphProto, around: Scope[]): void {
    // A caller may give another tensor for one that is an input too.
    const inputs = new Set(graph.input.map(({ name }) => name))
    const fixed = (graph.initializer ?? []).filter(({ name }) => !inputs.has(name))
    const own = {
      tensors: new Map(fixed.map((tensor) => [tensor.name, tensor])),
      producers: producersOf(graph),
    }
    const scopes = [own, ...around]
    const known = new Map<string, Int8Rows>()
    graph.node = graph.node.flatMap((node) => {
      for (const body of bodiesOf(node)) this.scope(body, scopes)
      const weight = weightOf(node, scopes)
      return weight ? this.#product(node, this.#take(weight), known) : [node]
    })
  }

  #product(node: NodeProto, weight: Int8Weight, known: Map<string, Int8Rows>): NodeProto[] {
    const g = this.#g
    const rows = this.#rows(node.input[0]!, known)
    const product = g.op(
      'MatMulIntegerToFloat',
      [
        rows.values,
        this.#tensor(weight.values),
        g.floats(1),
        this.#tensor(weight.scales),
        g.bytes(zeroPoint),
      ],
      ['float32'],
      {},
      runtimeDomain,
    )[0] as Value<'float32'>
    const scaled = g.mul(product, rows.scales)
    const bias = node.opType === 'Gemm' ? node.input[2] : undefined
    if (bias) g.add(scaled, { name: bias, type: 'float32' })
    const nodes = g.takeNodes()
    nodes.at(-1)!.output = node.output
    return nodes
  }

  #rows(name: string, known: Map<string, Int8Rows>): Int8Rows {
    const there = known.get(name)
    if (there) return there
    const g = this.#g
    const x: Value<'float32'> = { name, type: 'float32' }
    const largest = g.maximum(this.#edge('ReduceMax', x), g.neg(this.#edge('ReduceMin', x)))
    const scales = g.maximum(g.div(largest, g.floats(mostOfRow)), g.floats(smallestScale))
    const whole = [g.div(x, scales), g.floats(1), g.bytes(zeroPoint)]
    const rows = { values: g.op('QuantizeLinear', whole, ['uint8'])[0] as Value<'uint8'>, scales }
    known.set(name, rows)
    return rows
  }

  /** The largest or smallest number of each row. */
  #edge(opType: 'ReduceMax' | 'ReduceMin', x: Value<'float32'>): Value<'float32'> {
    const isInput = this.#opset >= 18
    const inputs = isInput ? [x, this.#g.ints([-1])] : [x]
    return this.#g.op(opType, inputs, ['float32'], { ...(!isInput && { axes: [-1] }), keepdims: 1 })[0]
  }

  #tensor(tensor: TensorProto): Value<'float32'> {
    this.#weights.set(tensor.name, tensor)
    return { name: tensor.name, type: 'float32' }
  }
}

/** The stored weight of a product `x @ weight`, where it is one. */
function weightOf(node: NodeProto, scopes: Scope[]): StoredWeight | undefined {
  if (!isStandard(node)) return undefined
  if (node.opType === 'MatMul') return storedWeight(node.input[1]!, scopes, false)
  if (node.opType !== 'Gemm' || intOf(node, 'transA')) return undefined
  if ((floatOf(node, 'alpha') ?? 1) !== 1 || (floatOf(node, 'beta') ?? 1) !== 1) return undefined
  return storedWeight(node.input[1]!, scopes, intOf(node, 'transB') === 1)
}

function storedWeight(name: string, scopes: Scope[], outputsFirst: boolean): StoredWeight | undefined {
  const at = scopes.findIndex(({ tensors, producers }) => tensors.has(name) || producers.has(name))
  if (at < 0) return undefined
  const around = scopes.slice(at)
  const { tensors, producers } = around[0]!
  const tensor = tensors.get(name)
  if (tensor) return isStored(tensor) ? { parts: [tensor], outputsFirst } : undefined
  const node = producers.get(name)!
  if (!isStandard(node)) return undefined
  const of = (input: string, first = outputsFirst) => storedWeight(input, around, first)
  if (node.opType === 'Identity' || isCastToFloat32(node)) return of(node.input[0]!)
  if (node.opType === 'Transpose' && intsOf(node, 'perm')?.join() !== '0,1')
    return of(node.input[0]!, !outputsFirst)
  if (node.opType !== 'Concat' || intOf(node, 'axis') !== 0 || !outputsFirst) return undefined
  const parts = node.input.flatMap((input) => of(input) ?? [])
  const isWhole = parts.length === node.input.length && parts.every((part) => part.outputsFirst)
  return isWhole ? { parts: parts.flatMap((part) => part.parts), outputsFirst } : undefined
}

const isCastToFloat32 = (node: NodeProto) => node.opType === 'Cast' && intOf(node, 'to') === dataTypes.float32

const floats: readonly number[] = [dataTypes.float32, dataTypes.float16, dataTypes.bfloat16]

/** Small tensors are in the graph itself. */
const isStored = ({ dataLocation, dataType, dims }: TensorProto) =>
  dataLocation === 1 && dims.length === 2 && floats.includes(dataType)
