import { Graph } from '../../onnx/graph.ts'
import type { Bool, Float, Int, Value } from '../../onnx/operators.ts'
import {
  type DataType,
  dataTypes,
  type GraphProto,
  type NodeProto,
  type ValueInfoProto,
} from '../../onnx/proto.ts'
import { namesRead } from '../../onnx/rewrite.ts'
import {
  attentionWithReceived,
  meanReceived,
  proportionalAttention,
  proportionalSoftmax,
} from '../attention.ts'
import { mergingCount, type Places, sharedPlaces, type Tokens, turboMerge } from '../merge.ts'
import { type Attention, addsMask, beforeHeads } from './attentions.ts'
import type { Block } from './blocks.ts'
import type { Encoder } from './encoder.ts'
import { type Followed, type Stage, TokenReader } from './followed.ts'
import { findGelus } from './gelu.ts'
import { readTokens } from './readers.ts'
import { nameOf, PlugRefusal } from './refusal.ts'

export interface RewriteOptions {
  prefix: number
  /** Tokens that enter. */
  tokens: number
  width: number
  types: ReadonlyMap<string, string>
  /** Follows where every token goes. */
  source: boolean
  /** Tensors from which on every token has its row again. */
  unmergeAt: ReadonlySet<string>
  /**
   * Leaves attentions as they are written, and only weighs their probabilities. Rounding to integers turns the least
   * difference into a visible one, so quantised activations need the very operators of the file.
   */
  keepAttentions: boolean
  threshold?: number
  unmergeAtOutput?: boolean
  trace?: boolean
  gpu?: boolean
}

/** Tokens have to be unmerged, and nobody followed where they went, or they must be where they still lie in rows. */
export class NeedsMore extends Error {
  override readonly name = 'NeedsMore'
  readonly unmergeAt?: string

  constructor(unmergeAt?: string) {
    super('the graph has to be written once more')
    this.unmergeAt = unmergeAt
  }
}

/** The graph with Turbo in every block. @throws PlugRefusal, NeedsMore */
export function rewrite(
  encoder: Encoder,
  blocks: Block[],
  options: RewriteOptions,
): { graph: GraphProto; unmerged: boolean } {
  return new Rewriter(encoder, blocks, options).rewrite()
}

class Rewriter {
  readonly #encoder: Encoder
  readonly #blocks: Block[]
  readonly #options: RewriteOptions
  readonly #g = new Graph(undefined, 'turbo/')
  readonly #nodes: NodeProto[] = []
  readonly #followed = new Map<string, Followed>()
  /** What tensors are called now. */
  readonly #names = new Map<string, string>()
  /** Nodes that merging must not change the meaning of: those that a block is computed from. */
  readonly #before: ReadonlySet<NodeProto>
  readonly #unmergedNames = new Map<string, string>()
  #tokens?: Tokens
  #places?: Places
  #schedule?: { r: Int[]; weight: Value<'float32'>[] }
  /** Mean attention received in the block that is being written. */
  #received?: Value<'float32'>
  #unmerged = false

  constructor(encoder: Encoder, blocks: Block[], options: RewriteOptions) {
    this.#encoder = encoder
    this.#blocks = blocks
    this.#options = options
    this.#before = encoder.view.ancestors(blocks.at(-1)!.residual.output)
  }

  rewrite(): { graph: GraphProto; unmerged: boolean } {
    const attentions = new Map(this.#blocks.map((block, layer) => [block.attention.last, layer]))
    const residuals = new Map(this.#blocks.map((block, layer) => [block.residual, layer]))
    const inside = new Set(this.#blocks.flatMap(({ attention }) => attention.inside))
    const gelus = this.#options.keepAttentions ? new Map<NodeProto, NodeProto>() : findGelus(this.#encoder)
    for (const original of this.#encoder.view.graph.node) {
      const node = gelus.get(original) ?? original
      const [attention, residual] = [attentions.get(node), residuals.get(node)]
      if (attention !== undefined) this.#attend(attention)
      else if (residual !== undefined) this.#merge(residual)
      else if (inside.has(node)) this.#passOver(node)
      else this.#read(node)
      this.#nodes.push(...this.#g.takeNodes())
    }
    const output = this.#outputs()
    this.#nodes.push(...this.#g.takeNodes())
    const { graph } = this.#encoder.view
    return {
      graph: {
        ...graph,
        node: this.#nodes,
        output,
        initializer: [...(graph.initializer ?? []), ...this.#g.initializers],
      },
      unmerged: this.#unmerged,
    }
  }

  /** A node of an attention, which is written when its last one comes; unless someone else needs it, it goes. */
  #passOver(node: NodeProto): void {
    if (!this.#options.keepAttentions) this.#nodes.push(this.#renamed(node))
  }

  #renamed(node: NodeProto): NodeProto {
    return { ...node, input: node.input.map((name) => (name ? this.#now(name) : '')) }
  }

  readonly #now = (name: string): string => this.#names.get(name) ?? name

  readonly #typeOf = (name: string): Float['type'] =>
    (this.#options.types.get(name) ?? this.#options.types.get(this.#blocks[0]!.stream)) as Float['type']

  #value(name: string): Float {
    return { name: this.#now(name), type: this.#typeOf(name) } as Float
  }

  /** A node that is no part of a block's attention: what of it reads tokens is corrected. */
  #read(node: NodeProto): void {
    const inputs = new Map(
      node.input.flatMap((name) => {
        const followed = this.#followed.get(name)
        return followed ? [[name, followed] as const] : []
      }),
    )
    if (inputs.size === 0) {
      this.#readAround(node)
      return
    }
    try {
      const { node: read, followed } = readTokens({
        encoder: this.#encoder,
        g: this.#g,
        node,
        inputs,
        now: this.#now,
        typeOf: this.#typeOf,
      })
      this.#nodes.push(...this.#g.takeNodes(), ...(read ? [read] : []))
      for (const [name, each] of followed) this.#follow(name, each)
    } catch (error) {
      if (!(error instanceof TokenReader)) throw error
      this.#g.takeNodes()
      this.#unmergeBefore(node, inputs, error)
    }
  }

  #readAround(node: NodeProto): void {
    const captured = namesRead(node).find((name) => this.#followed.has(name) || this.#names.has(name))
    if (captured && !node.input.includes(captured))
      throw new PlugRefusal(`tokens go into a branch or a loop (${nameOf(node)})`)
    this.#nodes.push(this.#renamed(node))
  }

  /** Behind the last block whoever needs every token gets it back; before, merging would change what follows. */
  #unmergeBefore(node: NodeProto, inputs: ReadonlyMap<string, Followed>, reason: TokenReader): void {
    if (this.#before.has(node))
      throw new PlugRefusal(`its blocks read tokens by their places: ${reason.message} (${nameOf(node)})`)
    const names = new Map([...inputs].map(([name, followed]) => [name, this.#unmerge(name, followed)]))
    this.#nodes.push(...this.#g.takeNodes())
    const input = node.input.map((name) => names.get(name) ?? (name ? this.#now(name) : ''))
    this.#nodes.push({ ...node, input })
  }

  /** The tensor with a row for each token of the probe's run. */
  #unmerge(name: string, { stage, axis, flat, probabilities }: Followed): string {
    const known = this.#unmergedNames.get(name)
    if (known) return known
    if (!stage.source) throw new NeedsMore()
    const shape = this.#encoder.shape(name)
    if (flat || probabilities || shape.length !== 3 || axis === 0) throw this.#needsRows(name)
    const g = this.#g
    const x = this.#value(name)
    const rows = axis === 1 ? x : g.transpose(x, [0, 2, 1])
    const columns = shape[axis === 1 ? 2 : 1]!
    const firsts = g.mul(this.#places!.rows, g.shape(rows, 1, 2))
    const all = g.gather(g.reshape(rows, [-1, columns]), g.add(firsts, stage.source))
    const unmerged = (axis === 1 ? all : g.transpose(all, [0, 2, 1])).name
    this.#unmergedNames.set(name, unmerged)
    this.#unmerged = true
    return unmerged
  }

  #follow(name: string, followed: Followed): void {
    if (this.#options.unmergeAt.has(name)) this.#names.set(name, this.#unmerge(name, followed))
    else this.#followed.set(name, followed)
    this.#nodes.push(...this.#g.takeNodes())
  }

  /** Tokens that a tensor comes from, where they last were rows, behind the last block. */
  #needsRows(tensor: string): Error {
    const { view } = this.#encoder
    const made = view.ancestors([tensor])
    const rows = [...this.#followed].filter(([name, { axis, flat, probabilities }]) => {
      const node = view.producer(name)
      const isRows = axis === 1 && !flat && !probabilities && this.#encoder.shape(name).length === 3
      return isRows && node && made.has(node) && !this.#before.has(node)
    })
    const last = rows.at(-1)?.[0]
    return last && !this.#options.unmergeAt.has(last)
      ? new NeedsMore(last)
      : new PlugRefusal(`it reads every token in a form that cannot be unmerged (${tensor})`)
  }

  #attend(layer: number): void {
    const g = this.#g
    const { attention, stream } = this.#blocks[layer]!
    this.#tokens ??= this.#entering(stream)
    const { sizes } = this.#tokens
    if (this.#options.keepAttentions && attention.softmax) {
      this.#keep(layer)
      return
    }
    const { q, k, v, scale } = this.#joined(layer)
    const { heads, headWidth, valueWidth } = attention
    const { prefix, gpu, tokens } = this.#options
    const settings = { heads, headWidth, scale, width: heads * valueWidth, gpu }
    const merged = layer === 0 ? false : undefined
    if (prefix > 0) {
      const attended = proportionalAttention(g, { q, k, v }, sizes, tokens, { ...settings, merged })
      this.#attended(attention, attended)
      return
    }
    const { attended, received } = attentionWithReceived(g, { q, k, v }, sizes, tokens, {
      ...settings,
      merged,
      needed: this.#needsReceived(layer),
    })
    this.#received = received
    this.#attended(attention, attended)
  }

  /** True when tokens merge in a block, and by what attention they receive as well. */
  #needsReceived(layer: number): Bool {
    const g = this.#g
    const { r, weight } = this.#schedule!
    const count = g.shape(this.#tokens!.sizes, 1, 2)
    const merging = mergingCount(g, count, r[layer]!, this.#options)
    return g.not(g.or(g.equal(merging, g.ints([0])), g.equal(weight[layer]!, g.floats([0]))))
  }

  /** An attention as it is written, with its probabilities weighed. */
  #keep(layer: number): void {
    const { attention } = this.#blocks[layer]!
    const { layout, output, softmax } = attention
    for (const node of attention.inside) {
      if (addsMask(attention, node))
        this.#names.set(
          node.output[0]!,
          this.#now(node.input.find((name) => !attention.masks.includes(name))!),
        )
      else if (node === softmax) this.#weigh(layer, node)
      else this.#nodes.push(this.#renamed(node))
    }
    const stage = this.#stage()
    if (stage) this.#followed.set(output, { stage, axis: layout === 'heads' ? 2 : 1, flat: false })
  }

  #weigh(layer: number, softmax: NodeProto): void {
    const g = this.#g
    const { tokens, prefix } = this.#options
    const { sizes } = this.#tokens!
    const logits = this.#value(softmax.input[0]!)
    const rank = this.#encoder.shape(softmax.input[0]!).length
    const shape = rank === 4 ? ['B', 'H', 'N', 'N'] : ['BH', 'N', 'N']
    const write = (body: Graph, result: Value, sized = shape) =>
      body.output(body.uniqueName('weighed'), result, sized)
    const [probabilities] = g.branch(
      g.equal(g.shape(sizes, 1, 2), g.ints([tokens])),
      [logits.type],
      (body) => write(body, body.softmax(logits)),
      (body) => write(body, proportionalSoftmax(body, logits, sizes, rank)),
    ) as unknown as [Float]
    this.#names.set(softmax.output[0]!, probabilities.name)
    if (prefix === 0) this.#received = this.#receivedOf(layer, probabilities, rank, write)
    this.#nodes.push(...g.takeNodes())
  }

  #receivedOf(
    layer: number,
    probabilities: Float,
    rank: number,
    write: (body: Graph, result: Value, shape: string[]) => void,
  ): Value<'float32'> {
    const { sizes } = this.#tokens!
    const [received] = this.#g.branch(
      this.#needsReceived(layer),
      ['float32'],
      (body) => {
        const shape = body.concat(
          [body.shape(sizes, 0, 1), body.ints([-1]), body.shape(probabilities, rank - 2)],
          0,
        )
        const perHead = rank === 4 ? probabilities : body.reshape(probabilities, shape)
        write(body, meanReceived(body, perHead), ['B', 'N'])
      },
      (body) => write(body, body.expand(body.floats([0]), body.shape(sizes, 0, 2)), ['B', 'N']),
    )
    return received
  }

  /** Tokens as they come into the first block; each is one patch. */
  #entering(stream: string): Tokens {
    const g = this.#g
    const x = this.#value(stream)
    const layers = this.#blocks.length
    this.#schedule = {
      r: parts(g, { name: 'r', type: 'int64' }, layers),
      weight: parts(g, { name: 'weight', type: 'float32' }, layers),
    }
    this.#places = sharedPlaces(g, x, { tokens: this.#options.tokens })
    const shape = g.shape(x, 0, 2)
    return {
      x,
      sizes: g.expand(g.floats([1]), g.concat([shape, g.ints([1])], 0)),
      source: this.#options.source ? g.expand(g.range(g.toScalar(g.shape(x, 1, 2))), shape) : undefined,
    }
  }

  /** Queries, keys and values as `[B, N, heads * width]`. */
  #joined(layer: number): { q: Float; k: Float; v: Float; scale: number } {
    const { attention } = this.#blocks[layer]!
    const { q, k, v, keysTransposed } = attention
    const [queries, keys, values] = [
      this.#join(q, attention, attention.headWidth, false),
      this.#join(k, attention, attention.headWidth, keysTransposed),
      this.#join(v, attention, attention.valueWidth, false),
    ] as const
    const scale = attention.scale * queries.factor * keys.factor
    return { q: queries.value, k: keys.value, v: values.value, scale }
  }

  #join(
    name: string,
    { layout, heads }: Attention,
    columns: number,
    transposed: boolean,
  ): { value: Float; factor: number } {
    if (layout === 'joined') return { value: this.#value(name), factor: 1 }
    const before = beforeHeads(this.#encoder, name, { heads, transposed })
    if (before && before.factor !== 0 && (before.factor === 1 || columns !== undefined))
      return {
        value: { ...this.#value(name), name: this.#now(before.joined) } as Float,
        factor: before.factor,
      }
    const g = this.#g
    const value = this.#value(name)
    const perHead =
      layout === 'heads' ? value : g.reshape(value, g.concat([g.ints([-1, heads]), g.shape(value, 1, 3)], 0))
    const rows = g.transpose(perHead, transposed ? [0, 3, 1, 2] : [0, 2, 1, 3])
    return { value: g.reshape(rows, [0, 0, heads * columns]), factor: 1 }
  }

  /** The result of an attention in the form in which the graph goes on with it. */
  #attended({ layout, heads, valueWidth, output }: Attention, joined: Float): void {
    const g = this.#g
    const stage = this.#stage()
    const tokens = { stage, axis: layout === 'heads' ? 2 : 1, flat: false }
    if (layout === 'joined') {
      this.#replace(output, joined, tokens)
      return
    }
    const perHead = g.transpose(g.reshape(joined, [0, 0, heads, valueWidth]), [0, 2, 1, 3])
    const flat = () => g.reshape(perHead, g.concat([g.ints([-1]), g.shape(perHead, 2, 4)], 0))
    this.#replace(output, layout === 'heads' ? perHead : flat(), tokens)
  }

  /** Before the first merge tokens are as they were, and nothing is followed. */
  #stage(): Stage | undefined {
    return this.#stages.get(this.#tokens!)
  }
  readonly #stages = new Map<Tokens, Stage>()

  #replace(output: string, value: Value, followed: Omit<Followed, 'stage'> & { stage?: Stage }): void {
    this.#names.set(output, value.name)
    const { stage } = followed
    if (stage) this.#followed.set(output, { ...followed, stage })
  }

  #merge(layer: number): void {
    const g = this.#g
    const { attention, stream, update, residual } = this.#blocks[layer]!
    const { heads, headWidth, tokens } = { ...attention, tokens: this.#options.tokens }
    const { width, prefix, threshold, gpu } = this.#options
    const { q, k, scale } = this.#joined(layer)
    const meaning = prefix > 0 ? { queries: q } : { value: this.#received! }
    const settings = {
      places: this.#places!,
      heads,
      headWidth,
      scale,
      width,
      layer,
      tokens,
      prefix,
      threshold,
      gpu,
    }
    const { r, weight } = this.#schedule!
    this.#checkStages(layer)
    const merged = turboMerge(
      g,
      { ...this.#tokens!, x: this.#value(stream) },
      { update: this.#value(update), keys: k, meaning },
      r[layer]!,
      weight[layer]!,
      settings,
    )
    this.#tokens = merged
    const stage = { sizes: merged.sizes, source: merged.source, tokens, prefix }
    this.#stages.set(merged, stage)
    this.#replace(residual.output[0]!, merged.x, { stage, axis: 1, flat: false })
  }

  /** What a block adds up must be the tokens that the block before left. */
  #checkStages(layer: number): void {
    const { stream, update, residual } = this.#blocks[layer]!
    const stage = this.#stage()
    const fits = [stream, update].every((name) => {
      const followed = this.#followed.get(name)
      return followed?.stage === stage && (!followed || (followed.axis === 1 && !followed.flat))
    })
    if (!fits) throw new PlugRefusal(`it adds tokens of different blocks (${nameOf(residual)})`)
  }

  #outputs(): ValueInfoProto[] {
    const outputs = this.#encoder.view.graph.output.map((output) => {
      const { name } = output
      const followed = this.#followed.get(name)
      const unmerge = followed && this.#options.unmergeAtOutput
      const now = unmerge ? this.#unmerge(name, followed) : this.#now(name)
      this.#nodes.push(...this.#g.takeNodes())
      if (now !== name && this.#nodes.some((node) => node.output.includes(name))) this.#moveOutput(name, now)
      else if (now !== name) this.#nodes.push({ opType: 'Identity', input: [now], output: [name] })
      return followed && !unmerge ? withFreeAxis(output, followed.axis) : output
    })
    if (!this.#options.trace) return outputs
    const source = this.#tokens!.source!
    this.#nodes.push({ opType: 'Identity', input: [source.name], output: ['source'] })
    return [...outputs, infoOf('source', 'int64', this.#options.tokens)]
  }

  /** Gives an output's name to its unmerged form. */
  #moveOutput(name: string, unmerged: string): void {
    const merged = `turbo/merged/${name}`
    const rename = (names: string[]) => names.map((each) => (each === name ? merged : each))
    for (const [i, node] of this.#nodes.entries())
      if (node.output.includes(name) || node.input.includes(name))
        this.#nodes[i] = { ...node, input: rename(node.input), output: rename(node.output) }
    this.#nodes.push({ opType: 'Identity', input: [unmerged], output: [name] })
  }
}

const parts = <V extends Value>(g: Graph, list: V, count: number): V[] =>
  count === 1 ? [list] : g.split(list, count, 0)

function withFreeAxis(output: ValueInfoProto, axis: number): ValueInfoProto {
  const tensorType = output.type?.tensorType
  if (!tensorType?.shape) return output
  const dim = tensorType.shape.dim.map((each, i) => (i === axis ? { dimParam: 'tokens' } : each))
  return { ...output, type: { tensorType: { ...tensorType, shape: { dim } } } }
}

const infoOf = (name: string, type: DataType, tokens: number): ValueInfoProto => ({
  name,
  type: {
    tensorType: { elemType: dataTypes[type], shape: { dim: [{ dimParam: 'batch' }, { dimValue: tokens }] } },
  },
})
