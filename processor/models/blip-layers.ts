import type { Graph } from '../onnx/graph.ts'
import type { Float, Int, Value } from '../onnx/operators.ts'
import type { Weights } from '../onnx/weights.ts'

/** A value that is known when the session loads: arithmetic on it is done once, in float32. */
export type Constant = Value<'float32'>

/** Linear layer whose result is added to a residual and normed; all sizes are those of the last axis. */
interface AddNormLayer {
  name: string
  from: number
  norm: string
  width: number
  epsilon: number
  /** Default: the layer's own. */
  bias?: Float
}

interface LayersOptions {
  type: Float['type']
  batch: Int
  /** Uses operators that are fastest on a GPU. */
  gpu?: boolean | undefined
}

/** Layers of transformers over the weights of a folder, in one graph. `type` is the type that it computes in. */
export class BlipLayers {
  readonly weights: Weights
  readonly type: Float['type']
  /** Images in the batch, `int64 [1]`. */
  readonly batch: Int
  readonly #g: Graph
  readonly #loaded = new Map<string, Float>()
  readonly #tokenShapes = new Map<number, Int>()
  readonly #gpu: boolean

  constructor(g: Graph, weights: Weights, { type, batch, gpu = false }: LayersOptions) {
    this.#g = g
    this.weights = weights
    this.type = type
    this.batch = batch
    this.#gpu = gpu
  }

  /** `[B, N, from]` -> `[B, N, to]`. */
  linear(x: Float, name: string, from: number, to: number, bias: Float): Float {
    const product = this.#g.gemm(this.rows(x, from), this.load(`${name}.weight`, [to, from]), bias)
    return this.#g.reshape(product, this.tokenShape(to))
  }

  /** The bias of a layer behind an attention, with what the attention's values left out: `bias + weight @ left out`. */
  biasWith(leftOut: Constant, name: string, width: number): Float {
    return this.once(`${name} with the values' bias`, () => {
      const g = this.#g
      const weight = this.constant(`${name}.weight`, [width, width])
      const through = g.reshape(g.matmul(weight, g.reshape(leftOut, [-1, 1])), [-1])
      return this.inType(g.add(this.constant(`${name}.bias`, [width]), through))
    })
  }

  /** GELU of a linear layer, `[rows, from]` -> `[rows, to]`. */
  linearGelu(rows: Float, name: string, from: number, to: number, g = this.#g): Float {
    const product = g.gemm(rows, this.load(`${name}.weight`, [to, from]))
    return g.biasGelu(product, this.load(`${name}.bias`, [to]))
  }

  /** A linear layer of `rows [M, from]`, brought to `shape`, added to `skip`, and a layer norm of the sum. */
  linearAddNorm(
    rows: Float,
    skip: Float,
    { name, from, norm, width, epsilon, bias = this.load(`${name}.bias`, [width]) }: AddNormLayer,
    shape?: Int,
    g = this.#g,
  ): { normed: Float; sum: Float } {
    const product = g.gemm(rows, this.load(`${name}.weight`, [width, from]))
    const [scale, shift] = ['weight', 'bias'].map((part) => this.load(`${norm}.${part}`, [width])) as [
      Float,
      Float,
    ]
    const update = shape ? g.reshape(product, shape) : product
    if (this.#gpu) return g.addLayerNorm(update, skip, { scale, shift, bias }, epsilon)
    // On a CPU the fused operator takes three times as long.
    const sum = g.add(g.add(update, bias), skip)
    return { sum, normed: g.layerNorm(sum, scale, shift, epsilon) }
  }

  /** `[B, N, width]` -> `[B * N, width]`. */
  rows(x: Float, width: number, g = this.#g): Float {
    return g.reshape(x, [-1, width])
  }

  layerNorm(x: Float, name: string, width: number, epsilon: number, g = this.#g): Float {
    return g.layerNorm(x, this.load(`${name}.weight`, [width]), this.load(`${name}.bias`, [width]), epsilon)
  }

  /** `[B, -1, width]`, to reshape to: computed once in the outermost graph. */
  tokenShape(width: number): Int {
    const known = this.#tokenShapes.get(width)
    if (known) return known
    const shape = this.#g.concat([this.batch, this.#g.ints([-1, width])], 0)
    this.#tokenShapes.set(width, shape)
    return shape
  }

  /** A weight in the outermost graph, loaded once; loop bodies see it from there. */
  load(name: string, shape: number[]): Float {
    return this.once(name, () => this.weights.load(this.#g, name, shape, this.type) as Float)
  }

  /** A weight in float32 whatever the graph computes in: arithmetic on constants is done once, when the session loads. */
  constant(name: string, shape: number[]): Constant {
    return this.weights.load(this.#g, name, shape, 'float32')
  }

  /** A result of such arithmetic in the type that the graph computes in. */
  inType(value: Constant): Float {
    return this.#g.cast(value, this.type) as Float
  }

  once(name: string, make: () => Float): Float {
    const known = this.#loaded.get(name)
    if (known) return known
    const value = make()
    this.#loaded.set(name, value)
    return value
  }
}
