import type { Graph } from '../onnx/graph.ts'
import type { Float, Int, Value } from '../onnx/operators.ts'
import { proportionalAttention } from '../turbo/attention.ts'
import { type MergeSettings, type Places, sharedPlaces, type Tokens, turboMerge } from '../turbo/merge.ts'
import { tokenCounts } from '../turbo/schedule.ts'
import type { BlipConfig } from './blip-config.ts'
import type { BlipLayers, Constant } from './blip-layers.ts'
import type { GraphOptions } from './model.ts'

/** Vision encoder of BLIP with Turbo inside: pixels in, image tokens out. */
export class BlipEncoder {
  readonly #g: Graph
  readonly #layers: BlipLayers
  readonly #config: Pick<BlipConfig, 'vision' | 'normalise'>
  readonly #options: GraphOptions

  constructor(g: Graph, layers: BlipLayers, config: BlipConfig, options: GraphOptions) {
    this.#g = g
    this.#layers = layers
    this.#config = config
    this.#options = options
  }

  /** `pixels uint8 [B, H, W, 3]`, `r int64 [layers]`, `weight float32 [layers]` -> tokens after the last norm. */
  encode(pixels: Value<'uint8'>, r: Int, weight: Value<'float32'>): Tokens {
    return this.#encode(this.#embedPatches(pixels), r, weight)
  }

  /** `uint8 [B, H, W, 3]` -> `[B, 1 + patches, D]`: a product over whole patches, which is what the convolution is. */
  #embedPatches(pixels: Value<'uint8'>): Float {
    const g = this.#g
    const { hidden_size: d, patch_size: patch, image_size: side } = this.#config.vision
    const { scale, shift } = this.#config.normalise
    const grid = side / patch
    const like = { name: '', type: this.#layers.type } as Float
    // Whole grey levels near the mean are taken off first, which float16 does exactly; the rest goes into the bias.
    const centre = scale.map((factor, channel) =>
      Math.min(255, Math.max(0, Math.round(-shift[channel]! / factor))),
    )
    const offCentre = centre.map((level, channel) => level + shift[channel]! / scale[channel]!)

    const cells = g.transpose(g.reshape(pixels, [-1, grid, patch, grid, patch, 3]), [0, 1, 3, 2, 4, 5])
    const values = g.cast(cells, this.#layers.type) as Float
    // A whole patch at once: by threes it takes eight times as long.
    const levels = Array.from({ length: patch * patch * 3 }, (_, i) => centre[i % 3]!)
    const centred = g.sub(this.#layers.rows(values, levels.length), g.scalars(levels, [levels.length], like))

    const at = 'vision_model.embeddings'
    const weight = this.#layers.constant(`${at}.patch_embedding.weight`, [d, 3, patch, patch])
    const scaled = g.mul(g.transpose(weight, [0, 2, 3, 1]), g.floats(scale, [1, 1, 1, 3]))
    const projected = g.gemm(centred, this.#layers.inType(g.reshape(scaled, [-1, patch * patch * 3])))
    const offset = g.reshape(g.matmul(scaled, g.floats(offCentre, [3, 1])), [d, -1])
    const patchBias = this.#layers.constant(`${at}.patch_embedding.bias`, [d])
    const bias = g.add(patchBias, g.mul(g.mean(offset, 1), g.floats(patch ** 2)))

    const position = this.#layers.constant(`${at}.position_embedding`, [1, grid ** 2 + 1, d])
    const [first, rest] = g.splitAt(position, 1, 1)
    const patches = g.add(
      g.reshape(projected, this.#layers.tokenShape(d)),
      this.#layers.inType(g.add(rest, bias)),
    )
    const cls = this.#layers.inType(g.add(this.#layers.constant(`${at}.class_embedding`, [1, 1, d]), first))
    return g.concat([g.expand(cls, g.concat([this.#layers.batch, g.ints([1, d])], 0)), patches], 1)
  }

  /** Twelve (or more) pre-norm blocks, with Turbo between each block's attention and its MLP. */
  #encode(x: Float, r: Int, weight: Value<'float32'>): Tokens {
    const g = this.#g
    const vision = this.#config.vision
    const batchAndCount = g.shape(x, 0, 2)
    let tokens: Tokens = {
      x,
      sizes: g.expand(g.floats([1]), g.concat([batchAndCount, g.ints([1])], 0)),
      source: this.#options.trace
        ? g.expand(g.range(g.toScalar(g.shape(x, 1, 2))), batchAndCount)
        : undefined,
    }
    const layers = vision.num_hidden_layers
    const rs = g.split(r, layers, 0)
    const weights = g.split(weight, layers, 0)
    const places = sharedPlaces(g, x, { tokens: this.#tokenCount() })
    const normName = (layer: number) =>
      layer < layers ? `vision_model.encoder.layers.${layer}.layer_norm1` : 'vision_model.post_layernorm'
    let normed = this.#layers.layerNorm(x, normName(0), vision.hidden_size, vision.layer_norm_eps)
    for (let layer = 0; layer < layers; layer++) {
      const schedule = { r: rs[layer]!, weight: weights[layer]!, places }
      const block = this.#encoderBlock(layer, tokens, normed, normName(layer + 1), schedule)
      tokens = block.tokens
      normed = block.normed
    }
    return { ...tokens, x: normed }
  }

  /** @returns the hidden state behind the block, and the same normed by the layer norm that follows. */
  #encoderBlock(
    layer: number,
    tokens: Tokens,
    normed: Float,
    nextNorm: string,
    { r, weight, places }: { r: Int; weight: Value<'float32'>; places: Places },
  ): { tokens: Tokens; normed: Float } {
    const g = this.#g
    const {
      hidden_size: d,
      intermediate_size: inner,
      num_attention_heads: heads,
      layer_norm_eps: epsilon,
    } = this.#config.vision
    const headWidth = d / heads
    const { mode = 'turbo', threshold, gpu } = this.#options
    const attention = { heads, headWidth, scale: headWidth ** -0.5, width: d, gpu }
    const count = this.#tokenCount()
    const fixed = this.#fixedCounts(layer)
    const at = `vision_model.encoder.layers.${layer}`

    const { q, k, v, keyBias, valueBias } = this.#queriesKeysValues(normed, `${at}.self_attn.qkv`, d)
    const attended =
      layer === 0 || mode === 'none'
        ? g.attention(q, k, v, heads, attention.scale)
        : proportionalAttention(g, { q, k, v }, tokens.sizes, count, {
            ...attention,
            merged: fixed && fixed.entering < count,
          })
    const projection = `${at}.self_attn.projection`
    const projectionBias = this.#layers.biasWith(valueBias, projection, d)
    const norm = `${at}.layer_norm2`
    let merged: Tokens
    let normed2: Float
    if (fixed?.merging === 0) {
      const next = { name: projection, from: d, norm, width: d, epsilon, bias: projectionBias }
      const added = this.#layers.linearAddNorm(
        this.#layers.rows(attended, d),
        tokens.x,
        next,
        this.#layers.tokenShape(d),
      )
      merged = { ...tokens, x: added.sum }
      normed2 = added.normed
    } else {
      const update = this.#layers.linear(attended, projection, d, d, projectionBias)
      if (mode === 'none') merged = { ...tokens, x: g.add(tokens.x, update) }
      else {
        const seen = { update, keys: k, keyBias, meaning: { queries: q } }
        const settings = { ...attention, places, layer, tokens: count, score: mode, threshold, fixed }
        merged = turboMerge(g, tokens, seen, r, weight, settings)
      }
      normed2 = this.#layers.layerNorm(merged.x, norm, d, epsilon)
    }

    const grown = this.#layers.linearGelu(this.#layers.rows(normed2, d), `${at}.mlp.fc1`, d, inner)
    const next = { name: `${at}.mlp.fc2`, from: inner, norm: nextNorm, width: d, epsilon }
    const { normed: nextNormed, sum } = this.#layers.linearAddNorm(
      grown,
      merged.x,
      next,
      this.#layers.tokenShape(d),
    )
    return { tokens: { ...merged, x: sum }, normed: nextNormed }
  }

  /** Tokens that enter a layer and that merge in it, when the graph is built for one schedule. */
  #fixedCounts(layer: number): MergeSettings['fixed'] {
    const { r, threshold } = this.#options
    if (!r) return undefined
    const counts = tokenCounts(this.#tokenCount(), r, threshold)
    return { entering: counts[layer]!, merging: counts[layer]! - counts[layer + 1]! }
  }

  #tokenCount(): number {
    const { image_size: side, patch_size: patch } = this.#config.vision
    return (side / patch) ** 2 + 1
  }

  /**
   * Queries, keys and values `[B, N, width]` of one packed layer. Only queries come with their bias: that of the keys
   * adds the same to all logits of a query, which softmax does not see, and that of the values passes through the mean
   * unchanged, so that it can be added later.
   */
  #queriesKeysValues(x: Float, name: string, width: number) {
    const g = this.#g
    const rows = this.#layers.rows(x, width)
    const weights = this.#layers.weights.loadParts(
      g,
      `${name}.weight`,
      [3 * width, width],
      3,
      this.#layers.type,
    )
    const biases = this.#layers.weights.loadParts(g, `${name}.bias`, [3 * width], 3, 'float32')
    const [queryBias, keyBias, valueBias] = biases as [Constant, Constant, Constant]
    const [q, k, v] = weights.map((weight, part) => {
      const bias = part === 0 ? this.#layers.inType(queryBias) : undefined
      return g.reshape(g.gemm(rows, weight as Float, bias), this.#layers.tokenShape(width))
    }) as [Float, Float, Float]
    return { q, k, v, keyBias, valueBias }
  }
}
