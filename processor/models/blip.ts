import { basename, join, resolve } from 'node:path'
import { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Int, Value } from '../onnx/operators.ts'
import { Weights } from '../onnx/weights.ts'
import { proportionalAttention } from '../turbo/attention.ts'
import { type MergeSettings, type Places, sharedPlaces, type Tokens, turboMerge } from '../turbo/merge.ts'
import { tokenCounts } from '../turbo/schedule.ts'
import { type BlipConfig, readBlipConfig } from './blip-config.ts'
import { readLevels } from './levels.ts'
import type { CaptionModel, GraphOptions } from './model.ts'

/**
 * Opens a Hugging Face BLIP captioning folder of any size.
 *
 * Li et al., "BLIP", ICML 2022; tensor names and defaults as in Hugging Face's `BlipForConditionalGeneration`.
 * @throws ModelFolderError when a file or a tensor is missing, or does not fit the configuration.
 */
export async function openBlip(folder: string): Promise<CaptionModel> {
  const config = await readBlipConfig(folder)
  const weights = await Weights.open(join(folder, 'model.safetensors'))
  const { vision, text } = config
  const encoder = {
    tokens: (vision.image_size / vision.patch_size) ** 2 + 1,
    layers: vision.num_hidden_layers,
    width: vision.hidden_size,
    mlpWidth: vision.intermediate_size,
    heads: vision.num_attention_heads,
  }
  const buildGraph = (options: GraphOptions = {}) => new BlipGraph(config, weights, options).build()
  // Building checks every tensor's name and shape, before anything is loaded.
  buildGraph()
  return {
    id: basename(resolve(folder)),
    folder,
    image: { height: vision.image_size, width: vision.image_size, resample: config.resample },
    patch: vision.patch_size,
    encoder,
    maxLength: config.maxLength,
    maxPromptLength: maxPromptLength(config),
    startId: text.bos_token_id,
    endId: text.sep_token_id,
    padId: text.pad_token_id,
    levels: await readLevels(folder, encoder),
    buildGraph,
  }
}

/** Prompt ids that leave room for the start token and one id more. */
function maxPromptLength({ maxLength, maxNewTokens, text }: BlipConfig): number {
  return Math.max(0, (maxNewTokens ? text.max_position_embeddings - maxNewTokens : maxLength - 1) - 1)
}

/** Keys and values of one layer's attention, per head. */
interface KeysValues<F extends Float> {
  keys: F
  values: F
}

type Constant = Value<'float32'>

/** One build of the graph: pixels in, token ids out. `F` is the type that it computes in. */
class BlipGraph {
  readonly #g = new Graph()
  readonly #config: BlipConfig
  readonly #weights: Weights
  readonly #options: GraphOptions
  readonly #type: Float['type']
  readonly #loaded = new Map<string, Float>()
  readonly #tokenShapes = new Map<number, Int>()
  /** Images in the batch, `int64 [1]`. */
  #batch: Int | undefined

  constructor(config: BlipConfig, weights: Weights, options: GraphOptions) {
    this.#config = config
    this.#weights = weights
    this.#options = options
    this.#type = options.float16 ? 'float16' : 'float32'
  }

  build(): Uint8Array {
    const g = this.#g
    const { image_size: side, num_hidden_layers: layers, hidden_size: width } = this.#config.vision
    const pixels = g.input('pixels', 'uint8', ['B', side, side, 3])
    this.#batch = g.shape(pixels, 0, 1)
    const prompt = g.input('prompt', 'int64', ['B', 'P'])
    const r = g.input('r', 'int64', [layers])
    const weight = g.input('weight', 'float32', [layers])

    const encoded = this.#encode(this.#embedPatches(pixels), r, weight)
    const { decoder = true, trace = false } = this.#options
    if (decoder) g.output('ids', this.#generate(encoded.x, prompt), ['B', 'T'])
    if (trace || !decoder) g.output('tokens', g.cast(encoded.x, 'float32'), ['B', 'M', width])
    if (trace) {
      g.output('sizes', g.reshape(encoded.sizes, [0, -1]), ['B', 'M'])
      g.output('source', encoded.source!, ['B', 'N'])
    }
    return g.toModel()
  }

  // Vision encoder

  /** `uint8 [B, H, W, 3]` -> `[B, 1 + patches, D]`: a product over whole patches, which is what the convolution is. */
  #embedPatches(pixels: Value<'uint8'>): Float {
    const g = this.#g
    const { hidden_size: d, patch_size: patch, image_size: side } = this.#config.vision
    const { scale, shift } = this.#config.normalise
    const grid = side / patch
    const like = { name: '', type: this.#type } as Float
    // Whole grey levels near the mean are taken off first, which float16 does exactly; the rest goes into the bias.
    const centre = scale.map((factor, channel) =>
      Math.min(255, Math.max(0, Math.round(-shift[channel]! / factor))),
    )
    const offCentre = centre.map((level, channel) => level + shift[channel]! / scale[channel]!)

    const cells = g.transpose(g.reshape(pixels, [-1, grid, patch, grid, patch, 3]), [0, 1, 3, 2, 4, 5])
    const values = g.reshape(g.cast(cells, this.#type) as Float, [-1, patch, patch, 3])
    const centred = g.sub(values, g.scalars(centre, [1, 1, 1, 3], like))

    const at = 'vision_model.embeddings'
    const weight = this.#constant(`${at}.patch_embedding.weight`, [d, 3, patch, patch])
    const scaled = g.mul(g.transpose(weight, [0, 2, 3, 1]), g.floats(scale, [1, 1, 1, 3]))
    const projected = g.gemm(
      this.#rows(centred, patch * patch * 3),
      this.#inType(g.reshape(scaled, [-1, patch * patch * 3])),
    )
    const offset = g.reshape(g.matmul(scaled, g.floats(offCentre, [3, 1])), [d, -1])
    const patchBias = this.#constant(`${at}.patch_embedding.bias`, [d])
    const bias = g.add(patchBias, g.mul(g.mean(offset, 1), g.floats(patch ** 2)))

    const position = this.#constant(`${at}.position_embedding`, [1, grid ** 2 + 1, d])
    const [first, rest] = g.splitAt(position, 1, 1)
    const patches = g.add(g.reshape(projected, this.#tokenShape(d)), this.#inType(g.add(rest, bias)))
    const cls = this.#inType(g.add(this.#constant(`${at}.class_embedding`, [1, 1, d]), first))
    return g.concat([g.expand(cls, g.concat([this.#batch!, g.ints([1, d])], 0)), patches], 1)
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
    let normed = this.#layerNorm(x, normName(0), vision.hidden_size, vision.layer_norm_eps)
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
    const projectionBias = this.#biasWith(valueBias, projection, d)
    const norm = `${at}.layer_norm2`
    let merged: Tokens
    let normed2: Float
    if (fixed?.merging === 0) {
      const next = { name: projection, from: d, norm, width: d, epsilon, bias: projectionBias }
      const added = this.#linearAddNorm(this.#rows(attended, d), tokens.x, next)
      merged = { ...tokens, x: added.sum }
      normed2 = added.normed
    } else {
      const update = this.#linear(attended, projection, d, d, projectionBias)
      if (mode === 'none') merged = { ...tokens, x: g.add(tokens.x, update) }
      else {
        const seen = { update, keys: k, keyBias, clsQuery: g.slice(q, 1, 0, 1) }
        const settings = { ...attention, places, layer, tokens: count, score: mode, threshold, fixed }
        merged = turboMerge(g, tokens, seen, r, weight, settings)
      }
      normed2 = this.#layerNorm(merged.x, norm, d, epsilon)
    }

    const grown = this.#linearGelu(this.#rows(normed2, d), `${at}.mlp.fc1`, d, inner)
    const next = { name: `${at}.mlp.fc2`, from: inner, norm: nextNorm, width: d, epsilon }
    const { normed: nextNormed, sum } = this.#linearAddNorm(grown, merged.x, next)
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

  // Text decoder

  /** Greedy captions: `prompt int64 [B, P]` -> `ids int64 [B, T]`, prompt included. */
  #generate(image: Float, prompt: Int): Int {
    const g = this.#g
    const { text, maxLength, maxNewTokens } = this.#config
    const headWidth = text.hidden_size / text.num_attention_heads
    const batch = g.shape(prompt, 0, 1)
    const layers = Array.from({ length: text.num_hidden_layers }, (_, layer) => layer)
    const crossAttention = layers.map((layer) => this.#imageKeysValues(image, layer))
    const pad = g.ints(text.pad_token_id)

    const nothing = g.op(
      'ConstantOfShape',
      [g.concat([batch, g.ints([text.num_attention_heads, 0, headWidth])], 0)],
      ['float32'],
    )[0]
    const cache = layers.flatMap(() => [g.cast(nothing, this.#type), g.cast(nothing, this.#type)])
    const ended = g.expand(g.cast(g.ints(0), 'bool'), g.concat([batch, g.ints([1])], 0))
    const trips = maxNewTokens
      ? g.ints(maxNewTokens)
      : g.sub(g.ints(maxLength), g.toScalar(g.shape(prompt, 1, 2)))
    const cacheShape = (length: string) => ['B', text.num_attention_heads, length, headWidth]

    const outputs = g.loop(
      trips,
      [prompt, ended, ...cache],
      ['int64', 'bool', ...cache.map(() => this.#type), 'int64'],
      (body) => {
        const name = (prefix: string) => body.uniqueName(prefix)
        body.input(name('round'), 'int64', [])
        body.input(name('going'), 'bool', [])
        const tokens = body.input(name('tokens'), 'int64', ['B', 'S'])
        const wasEnded = body.input(name('ended'), 'bool', ['B', 1])
        const past = layers.map(() => ({
          keys: body.input(name('keys'), this.#type, cacheShape('past')) as Float,
          values: body.input(name('values'), this.#type, cacheShape('past')) as Float,
        }))

        const { next, present } = this.#decodeStep(body, tokens, past, crossAttention)
        const emitted = body.where(wasEnded, pad, next)
        const nowEnded: Bool = body.or(wasEnded, body.equal(emitted, g.ints(text.sep_token_id)))

        body.output(name('going'), body.not(body.all(nowEnded)), [])
        body.output(name('tokens'), emitted, ['B', 1])
        body.output(name('ended'), nowEnded, ['B', 1])
        for (const { keys, values } of present) {
          body.output(name('keys'), keys, cacheShape('present'))
          body.output(name('values'), values, cacheShape('present'))
        }
        body.output(name('emitted'), emitted, ['B', 1])
      },
    )
    const generated = g.reshape(g.transpose(outputs.at(-1) as Int, [1, 0, 2]), [0, -1])
    return g.concat([prompt, generated], 1)
  }

  /** Keys and values `[B, heads, M, headWidth]` of the image, used in every step. */
  #imageKeysValues(image: Float, layer: number): KeysValues<Float> {
    const g = this.#g
    const { hidden_size: d, num_attention_heads: heads } = this.#config.text
    const from = this.#config.vision.hidden_size
    const perHead = (name: string) => {
      const at = `text_decoder.bert.encoder.layer.${layer}.crossattention.self.${name}`
      // Without their biases: see #queriesKeysValues.
      const rows = g.gemm(this.#rows(image, from), this.#load(`${at}.weight`, [d, from]))
      return g.transpose(
        g.reshape(g.reshape(rows, this.#tokenShape(d)), [0, 0, heads, d / heads]),
        [0, 2, 1, 3],
      )
    }
    return { keys: perHead('key'), values: perHead('value') }
  }

  /** One round: `tokens int64 [B, S]` (the prompt first, then one id) -> the next id `[B, 1]` and the grown cache. */
  #decodeStep(g: Graph, tokens: Int, past: KeysValues<Float>[], image: KeysValues<Float>[]) {
    const text = this.#config.text
    const { hidden_size: d, layer_norm_eps: epsilon, vocab_size: vocabulary } = text
    const steps = g.range(g.toScalar(g.shape(tokens, 1, 2)))
    const positions = g.add(steps, g.shape(past[0]!.keys, 2, 3))

    const at = 'text_decoder.bert.embeddings'
    const words = this.#load(`${at}.word_embeddings.weight`, [vocabulary, d])
    const places = this.#load(`${at}.position_embeddings.weight`, [text.max_position_embeddings, d])
    const embedded = g.add(g.gather(words, tokens), g.gather(places, positions))
    const shape = g.concat([g.shape(tokens), g.ints([d])], 0)
    let x = this.#layerNorm(this.#rows(embedded, d, g), `${at}.LayerNorm`, d, epsilon, g)

    const present: KeysValues<Float>[] = []
    for (let layer = 0; layer < text.num_hidden_layers; layer++) {
      const block = this.#decoderBlock(g, layer, x, shape, past[layer]!, image[layer]!)
      x = block.x
      present.push(block.present)
    }

    const head = 'text_decoder.cls.predictions'
    const last = this.#rows(g.slice(g.reshape(x, shape), 1, -1), d, g)
    const dense = this.#linearGelu(last, `${head}.transform.dense`, d, d, g)
    const transformed = this.#layerNorm(dense, `${head}.transform.LayerNorm`, d, epsilon, g)
    // The output projection is the word embeddings; its bias is stored apart.
    const logits = g.gemm(transformed, words, this.#load(`${head}.bias`, [vocabulary]))
    return { next: g.argmax(logits, -1, true), present }
  }

  /** Post-norm block: causal self attention, attention to the image, MLP. `x [B * S, D]`, `shape` is `[B, S, D]`. */
  #decoderBlock(
    g: Graph,
    layer: number,
    x: Float,
    shape: Int,
    past: KeysValues<Float>,
    image: KeysValues<Float>,
  ) {
    const text = this.#config.text
    const { hidden_size: d, num_attention_heads: heads, intermediate_size: inner } = text
    const scale = (d / heads) ** -0.5
    const at = `text_decoder.bert.encoder.layer.${layer}`
    const addAndNorm = (skip: Float, y: Float, name: string, from: number, bias?: Float) => {
      const linear = { name: `${at}.${name}.dense`, from, norm: `${at}.${name}.LayerNorm`, bias }
      return this.#linearAddNorm(y, skip, { ...linear, width: d, epsilon: text.layer_norm_eps }, g).normed
    }

    const { weight, bias } = this.#packedSelfAttention(`${at}.attention.self`, d)
    const [query, key, value] = g.split(g.gemm(x, weight), 3, 1).map((part) => g.reshape(part, shape)) as [
      Float,
      Float,
      Float,
    ]
    const own = g.causalAttention({ query, key, value, bias }, past, heads, scale)
    const afterOwn = addAndNorm(x, this.#rows(own.attended, d, g), 'attention.output', d)

    const cross = `${at}.crossattention`
    const asked = g.add(
      g.gemm(afterOwn, this.#load(`${cross}.self.query.weight`, [d, d])),
      this.#load(`${cross}.self.query.bias`, [d]),
    )
    const seen = g.attention(g.reshape(asked, shape), image.keys, image.values, heads, scale)
    const valueBias = this.#constant(`${cross}.self.value.bias`, [d])
    const crossBias = this.#biasWith(valueBias, `${cross}.output.dense`, d)
    const afterImage = addAndNorm(afterOwn, this.#rows(seen, d, g), 'crossattention.output', d, crossBias)

    const grown = this.#linearGelu(afterImage, `${at}.intermediate.dense`, d, inner, g)
    return { x: addAndNorm(afterImage, grown, 'output', inner), present: own.present }
  }

  // Layers

  /** Weight `[3 * width, width]` and bias `[3 * width]` of query, key and value, joined when the session loads. */
  #packedSelfAttention(at: string, width: number): { weight: Float; bias: Float } {
    const join = (part: string, shape: number[]) =>
      this.#once(`${at} ${part}`, () =>
        this.#g.concat(
          ['query', 'key', 'value'].map((name) => this.#load(`${at}.${name}.${part}`, shape)),
          0,
        ),
      )
    return { weight: join('weight', [width, width]), bias: join('bias', [width]) }
  }

  /** `[B, N, from]` -> `[B, N, to]`. */
  #linear(x: Float, name: string, from: number, to: number, bias = this.#load(`${name}.bias`, [to])): Float {
    const g = this.#g
    return g.reshape(
      g.gemm(this.#rows(x, from), this.#load(`${name}.weight`, [to, from]), bias),
      this.#tokenShape(to),
    )
  }

  /**
   * Queries, keys and values `[B, N, width]` of one packed layer. Only queries come with their bias: that of the keys
   * adds the same to all logits of a query, which softmax does not see, and that of the values passes through the mean
   * unchanged, so that it can be added later.
   */
  #queriesKeysValues(x: Float, name: string, width: number) {
    const g = this.#g
    const rows = this.#rows(x, width)
    const weights = this.#weights.loadParts(g, `${name}.weight`, [3 * width, width], 3, this.#type)
    const biases = this.#weights.loadParts(g, `${name}.bias`, [3 * width], 3, 'float32')
    const [queryBias, keyBias, valueBias] = biases as [Constant, Constant, Constant]
    const [q, k, v] = weights.map((weight, part) => {
      const bias = part === 0 ? this.#inType(queryBias) : undefined
      return g.reshape(g.gemm(rows, weight as Float, bias), this.#tokenShape(width))
    }) as [Float, Float, Float]
    return { q, k, v, keyBias, valueBias }
  }

  /** The bias of a layer behind an attention, with what the attention's values left out: `bias + weight @ left out`. */
  #biasWith(leftOut: Value<'float32'>, name: string, width: number): Float {
    return this.#once(`${name} with the values' bias`, () => {
      const g = this.#g
      const weight = this.#constant(`${name}.weight`, [width, width])
      const through = g.reshape(g.matmul(weight, g.reshape(leftOut, [-1, 1])), [-1])
      return this.#inType(g.add(this.#constant(`${name}.bias`, [width]), through))
    })
  }

  /** GELU of a linear layer, `[rows, from]` -> `[rows, to]`. */
  #linearGelu(rows: Float, name: string, from: number, to: number, g = this.#g): Float {
    const product = g.gemm(rows, this.#load(`${name}.weight`, [to, from]))
    return g.biasGelu(product, this.#load(`${name}.bias`, [to]))
  }

  /** A linear layer of `rows [M, from]`, added to `skip`, whose shape the results have, then a layer norm. */
  #linearAddNorm(
    rows: Float,
    skip: Float,
    layer: { name: string; from: number; norm: string; width: number; epsilon: number; bias?: Float },
    g?: Graph,
  ): { normed: Float; sum: Float } {
    const { name, from, norm, width, epsilon } = layer
    const body = g ?? this.#g
    const product = body.gemm(rows, this.#load(`${name}.weight`, [width, from]))
    const [scale, shift] = [`${norm}.weight`, `${norm}.bias`].map((tensor) =>
      this.#load(tensor, [width]),
    ) as [Float, Float]
    const { bias = this.#load(`${name}.bias`, [width]) } = layer
    // In the decoder, `skip` is flat as well.
    const update = g ? product : body.reshape(product, this.#tokenShape(width))
    return body.addLayerNorm(update, skip, { scale, shift, bias }, epsilon)
  }

  /** `[B, N, width]` -> `[B * N, width]`. */
  #rows(x: Float, width: number, g = this.#g): Float {
    return g.reshape(x, [-1, width])
  }

  #layerNorm(x: Float, name: string, width: number, epsilon: number, g = this.#g): Float {
    return g.layerNorm(x, this.#load(`${name}.weight`, [width]), this.#load(`${name}.bias`, [width]), epsilon)
  }

  /** `[B, -1, width]`, to reshape to: computed once in the outermost graph. */
  #tokenShape(width: number): Int {
    const known = this.#tokenShapes.get(width)
    if (known) return known
    const shape = this.#g.concat([this.#batch!, this.#g.ints([-1, width])], 0)
    this.#tokenShapes.set(width, shape)
    return shape
  }

  /** A weight in the outermost graph, loaded once; loop bodies see it from there. */
  #load(name: string, shape: number[]): Float {
    return this.#once(name, () => this.#weights.load(this.#g, name, shape, this.#type) as Float)
  }

  /** A weight in float32 whatever the graph computes in: arithmetic on constants is done once, when the session loads. */
  #constant(name: string, shape: number[]): Constant {
    return this.#weights.load(this.#g, name, shape, 'float32')
  }

  /** A result of such arithmetic in the type that the graph computes in. */
  #inType(value: Constant): Float {
    return this.#g.cast(value, this.#type) as Float
  }

  #once(name: string, make: () => Float): Float {
    const known = this.#loaded.get(name)
    if (known) return known
    const value = make()
    this.#loaded.set(name, value)
    return value
  }
}
