import { type DataType, dataTypes, type GraphProto } from './proto.ts'

/** A tensor in a graph under construction: a name and its element type. */
export interface Value<T extends DataType = DataType> {
  readonly name: string
  readonly type: T
}

export type Float = Value<'float32'> | Value<'float16'>
export type Int = Value<'int64'>
export type Bool = Value<'bool'>

/** Sizes; a string names a size known only at run time. */
export type Shape = (number | string)[]

export type AttributeValue = number | string | number[] | { float: number } | { graph: GraphProto }
export type Attributes = Record<string, AttributeValue>

/** ONNX Runtime's own operators. */
export const runtimeDomain = 'com.microsoft'

/** ONNX's operators as calls: values in, values out, element types kept. The graph takes the nodes. */
export abstract class Operators {
  /** Adds one node; `types` are the element types of its outputs. */
  abstract op<T extends DataType[]>(
    opType: string,
    inputs: (Value | undefined)[],
    types: [...T],
    attributes?: Attributes,
    domain?: string,
  ): { [K in keyof T]: Value<T[K]> }
  /** An int64 constant: a number is a scalar, a list a vector. */
  abstract ints(values: number | number[]): Int
  /** A float32 constant, scalar or vector, or of the shape given. */
  abstract floats(values: number | number[], dims?: number[]): Value<'float32'>

  /** A uint8 constant, scalar. */
  abstract bytes(value: number): Value<'uint8'>

  /** A scalar constant of the element type of `like`. */
  scalar<F extends Float>(value: number, like: F): F {
    return this.cast(this.floats(value), like.type) as F
  }

  /** A constant of the given shape and the element type of `like`. */
  scalars<F extends Float>(values: number[], dims: number[], like: F): F {
    return this.cast(this.floats(values, dims), like.type) as F
  }

  // Element by element, with broadcasting.
  add<V extends Value>(a: V, b: V): V {
    return this.#same('Add', a, b)
  }
  sub<V extends Value>(a: V, b: V): V {
    return this.#same('Sub', a, b)
  }
  mul<V extends Value>(a: V, b: V): V {
    return this.#same('Mul', a, b)
  }
  div<V extends Value>(a: V, b: V): V {
    return this.#same('Div', a, b)
  }
  mod(a: Int, b: Int): Int {
    return this.#same('Mod', a, b)
  }
  min<V extends Value>(a: V, b: V): V {
    return this.#same('Min', a, b)
  }
  maximum<V extends Value>(a: V, b: V): V {
    return this.#same('Max', a, b)
  }
  neg<V extends Value>(x: V): V {
    return this.#same('Neg', x)
  }
  log<V extends Float>(x: V): V {
    return this.#same('Log', x)
  }
  equal(a: Value, b: Value): Bool {
    return this.op('Equal', [a, b], ['bool'])[0]
  }
  less(a: Value, b: Value): Bool {
    return this.op('Less', [a, b], ['bool'])[0]
  }
  lessOrEqual(a: Value, b: Value): Bool {
    return this.op('LessOrEqual', [a, b], ['bool'])[0]
  }
  and(a: Bool, b: Bool): Bool {
    return this.#same('And', a, b)
  }
  or(a: Bool, b: Bool): Bool {
    return this.#same('Or', a, b)
  }
  not(a: Bool): Bool {
    return this.#same('Not', a)
  }
  where<V extends Value>(condition: Bool, a: V, b: V): V {
    return this.op('Where', [condition, a, b], [a.type])[0] as V
  }
  cast<T extends DataType>(x: Value, to: T): Value<T> {
    if (x.type === to) return x as Value<T>
    return this.op('Cast', [x], [to], { to: dataTypes[to] })[0]
  }

  // Products and normalisations.
  matmul<V extends Float>(a: V, b: V): V {
    return this.#same('MatMul', a, b)
  }
  /** `x [M, K] @ weight [N, K] transposed + bias [N]`: a linear layer on the weight as PyTorch stores it. */
  gemm<V extends Float>(x: V, weight: V, bias?: V): V {
    return this.op('Gemm', bias ? [x, weight, bias] : [x, weight], [x.type], { transB: 1 })[0] as V
  }
  softmax<V extends Float>(x: V, axis = -1): V {
    return this.op('Softmax', [x], [x.type], { axis })[0] as V
  }
  layerNorm<V extends Float>(x: V, scale: V, bias: V, epsilon: number): V {
    return this.op('LayerNormalization', [x, scale, bias], [x.type], {
      axis: -1,
      epsilon: { float: epsilon },
    })[0] as V
  }
  /** `scale * x / rms(x)` over the last axis, without an epsilon. */
  rmsNorm<V extends Float>(x: V, scale: V): V {
    return this.op('SimplifiedLayerNormalization', [x, scale], [x.type], {
      axis: -1,
      epsilon: { float: 0 },
    })[0] as V
  }
  /** The sum of `x`, `skip` and `bias`, and that sum with a layer norm: one pass over memory instead of three. */
  addLayerNorm<V extends Float>(
    x: V,
    skip: V,
    { scale, shift, bias }: { scale: V; shift: V; bias?: V },
    epsilon: number,
  ): { normed: V; sum: V } {
    const inputs = bias ? [x, skip, scale, shift, bias] : [x, skip, scale, shift]
    // Outputs two and three are for training.
    const [normed, , , sum] = this.op(
      'SkipLayerNormalization',
      inputs,
      [x.type, x.type, x.type, x.type],
      { epsilon: { float: epsilon } },
      runtimeDomain,
    )
    return { normed: normed as V, sum: sum as V }
  }
  /** GELU of `x + bias`, in one pass over memory. */
  biasGelu<V extends Float>(x: V, bias: V): V {
    return this.op('BiasGelu', [x, bias], [x.type], {}, runtimeDomain)[0] as V
  }
  /**
   * Fused attention of ONNX Runtime: `query [B, S, heads * dq]`, `key [B, T, heads * dq]`,
   * `value [B, T, heads * dv]` -> `[B, S, heads * dv]`. Keys and values may come per head, `[B, heads, T, d]`.
   * `bias [B or 1, heads or 1, S, T]` is added to the scaled logits.
   */
  attention<V extends Float>(query: V, key: V, value: V, heads: number, scale: number, bias?: V): V {
    return this.op(
      'MultiHeadAttention',
      bias ? [query, key, value, undefined, undefined, bias] : [query, key, value],
      [query.type],
      { num_heads: heads, scale: { float: scale } },
      runtimeDomain,
    )[0] as V
  }
  /**
   * Causal self attention of a decoder with a cache: `query`, `key`, `value [B, S, heads * d]` follow the `past` keys
   * and values `[B, heads, P, d]`. The present ones are `[B, heads, P + S, d]`. `bias [3 * heads * d]` is added to the
   * three before.
   */
  causalAttention<V extends Float>(
    { query, key, value, bias }: { query: V; key: V; value: V; bias: V },
    past: { keys: V; values: V },
    heads: number,
    scale: number,
  ): { attended: V; present: { keys: V; values: V } } {
    const [attended, keys, values] = this.op(
      'MultiHeadAttention',
      [query, key, value, bias, undefined, undefined, past.keys, past.values],
      [query.type, query.type, query.type],
      { num_heads: heads, scale: { float: scale }, unidirectional: 1 },
      runtimeDomain,
    )
    return { attended: attended as V, present: { keys: keys as V, values: values as V } }
  }

  // Reductions over one axis.
  max<V extends Value>(x: V, axis: number, keep = false): V {
    return this.#reduce('ReduceMax', x, axis, keep)
  }
  sum<V extends Value>(x: V, axis: number, keep = false): V {
    return this.#reduce('ReduceSum', x, axis, keep)
  }
  /** Running sums along an axis; exclusive ones leave the element itself out. */
  cumsum<V extends Value>(x: V, axis: number, { exclusive = false } = {}): V {
    return this.op('CumSum', [x, this.ints(axis)], [x.type], { exclusive: exclusive ? 1 : 0 })[0] as V
  }
  mean<V extends Float>(x: V, axis: number, keep = false): V {
    return this.#reduce('ReduceMean', x, axis, keep)
  }
  /** True where all are true along an axis. */
  allAlong(x: Bool, axis: number): Bool {
    return this.cast(this.#reduce('ReduceMin', this.cast(x, 'int32'), axis, false), 'bool')
  }
  /** Mean over several axes, which are gone then. */
  meanOver<V extends Float>(x: V, axes: number[]): V {
    return this.op('ReduceMean', [x, this.ints(axes)], [x.type], { keepdims: 0 })[0] as V
  }
  /** True where all are true along every axis: a scalar. */
  all(x: Bool): Bool {
    const least = this.op('ReduceMin', [this.cast(x, 'int32')], ['int32'], { keepdims: 0 })[0]
    return this.cast(least, 'bool')
  }
  argmax(x: Value, axis: number, keep = false): Int {
    return this.op('ArgMax', [x], ['int64'], { axis, keepdims: keep ? 1 : 0 })[0]
  }
  /** The k largest along the last axis, in no order unless `sorted`, and their indices; equal values: the lower index. */
  topK<V extends Value>(x: V, k: Int, { sorted = false } = {}): { values: V; indices: Int } {
    const attributes = { axis: -1, largest: 1, sorted: sorted ? 1 : 0 }
    const [values, indices] = this.op('TopK', [x, k], [x.type, 'int64'], attributes)
    return { values: values as V, indices }
  }
  /** The k smallest along the last axis, ascending. */
  smallest<V extends Value>(x: V, k: Int): V {
    return this.op('TopK', [x, k], [x.type, 'int64'], { axis: -1, largest: 0, sorted: 1 })[0] as V
  }

  // Shapes and places.
  /** Sizes of the axes `from` (included) to `to` (excluded) as a vector. */
  shape(x: Value, from = 0, to?: number): Int {
    const attributes: Attributes = to === undefined ? { start: from } : { start: from, end: to }
    return this.op('Shape', [x], ['int64'], attributes)[0]
  }
  /** 0 keeps the size of that axis, -1 is what remains. */
  reshape<V extends Value>(x: V, shape: number[] | Int): V {
    const to = Array.isArray(shape) ? this.ints(shape) : shape
    return this.op('Reshape', [x, to], [x.type])[0] as V
  }
  transpose<V extends Value>(x: V, perm: number[]): V {
    return this.op('Transpose', [x], [x.type], { perm })[0] as V
  }
  unsqueeze<V extends Value>(x: V, axis: number): V {
    return this.op('Unsqueeze', [x, this.ints([axis])], [x.type])[0] as V
  }
  expand<V extends Value>(x: V, shape: Int): V {
    return this.op('Expand', [x, shape], [x.type])[0] as V
  }
  concat<V extends Value>(values: V[], axis: number): V {
    return this.op('Concat', values, [values[0]!.type], { axis })[0] as V
  }
  /** Equal parts along an axis. */
  split<V extends Value>(x: V, parts: number, axis: number): V[] {
    const types = new Array<DataType>(parts).fill(x.type)
    return this.op('Split', [x], types, { axis, num_outputs: parts }) as unknown as V[]
  }
  /** The first `count` along an axis, and the rest. */
  splitAt<V extends Value>(x: V, count: number | Int, axis: number): [V, V] {
    const at = typeof count === 'number' ? this.ints([count]) : count
    const tail = [x, at, this.ints([2 ** 31]), this.ints([axis])]
    return [this.slice(x, axis, 0, at), this.op('Slice', tail, [x.type])[0] as V]
  }
  /** `x[start:end:step]` along an axis; without `end` to its end. */
  slice<V extends Value>(x: V, axis: number, start: number, end?: number | Int, step = 1): V {
    const to = end === undefined ? this.ints([2 ** 31]) : typeof end === 'number' ? this.ints([end]) : end
    const inputs = [x, this.ints([start]), to, this.ints([axis]), this.ints([step])]
    return this.op('Slice', inputs, [x.type])[0] as V
  }
  gather<V extends Value>(x: V, indices: Int, axis = 0): V {
    return this.op('Gather', [x, indices], [x.type], { axis })[0] as V
  }
  /** The slices of `x [B, S, ...]` at `indices [B, n]` of each row: `[B, n, ...]`. */
  gatherRows<V extends Value>(x: V, indices: Int): V {
    return this.op('GatherND', [x, this.unsqueeze(indices, 2)], [x.type], { batch_dims: 1 })[0] as V
  }
  /** `x` with the slices at `indices [n, rank]` replaced by `updates [n, ...]`. */
  scatterSlices<V extends Value>(x: V, indices: Int, updates: V): V {
    return this.op('ScatterND', [x, indices, updates], [x.type])[0] as V
  }
  gatherElements<V extends Value>(x: V, indices: Int, axis: number): V {
    return this.op('GatherElements', [x, indices], [x.type], { axis })[0] as V
  }
  scatterElements<V extends Value>(x: V, indices: Int, updates: V, axis: number): V {
    return this.op('ScatterElements', [x, indices, updates], [x.type], { axis })[0] as V
  }
  /** The elements of the flattened x for which the flattened mask is true, as a vector. */
  compress<V extends Value>(x: V, mask: Bool): V {
    return this.op('Compress', [x, mask], [x.type])[0] as V
  }
  /** 1 at each index along a new axis of the given depth, else 0. */
  oneHot<F extends Float['type'] = 'float32'>(
    indices: Int,
    depth: Int,
    axis: number,
    type = 'float32' as F,
  ): Value<F> {
    return this.op('OneHot', [indices, depth, this.cast(this.floats([0, 1]), type)], [type], { axis })[0]
  }
  /** 0, 1, ... below a scalar limit. */
  range(limit: Int): Int {
    return this.op('Range', [this.ints(0), limit, this.ints(1)], ['int64'])[0]
  }
  /** One more element at the end of the last axis of a tensor of this rank. */
  appendConstant<V extends Float>(x: V, rank: number, value: V): V {
    const pads = new Array<number>(2 * rank).fill(0)
    pads[2 * rank - 1] = 1
    return this.op('Pad', [x, this.ints(pads), value], [x.type], { mode: 'constant' })[0] as V
  }
  /** `count` (`int64 [1]`) more elements at the end of the last axis of a tensor of this rank. */
  padEnd<V extends Float>(x: V, rank: number, count: Int, value: V): V {
    const pads = this.concat([this.ints(new Array<number>(2 * rank - 1).fill(0)), count], 0)
    return this.op('Pad', [x, pads, value], [x.type], { mode: 'constant' })[0] as V
  }
  /** Largest of the last axis of `x [B, C, width]`, `[B, C, 1]`, and its index in the flattened x. */
  maxPool<V extends Float>(x: V, width: number): { values: V; indices: Int } {
    const [values, indices] = this.op('MaxPool', [x], [x.type, 'int64'], { kernel_shape: [width] })
    return { values: values as V, indices }
  }
  squeeze<V extends Value>(x: V, axis: number): V {
    return this.op('Squeeze', [x, this.ints([axis])], [x.type])[0] as V
  }
  /** A vector of one element as a scalar. */
  toScalar<V extends Value>(x: V): V {
    return this.op('Squeeze', [x], [x.type])[0] as V
  }

  #same<V extends Value>(opType: string, ...inputs: V[]): V {
    return this.op(opType, inputs, [inputs[0]!.type])[0] as V
  }

  #reduce<V extends Value>(opType: string, x: V, axis: number, keep: boolean): V {
    return this.op(opType, [x, this.ints([axis])], [x.type], { keepdims: keep ? 1 : 0 })[0] as V
  }
}
