import { basename, join, resolve } from 'node:path'
import { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Int, Value } from '../onnx/operators.ts'
import { Weights } from '../onnx/weights.ts'
import { proportionalAttention } from '../turbo/attention.ts'
import { type Places, sharedPlaces, type Tokens, turboMerge } from '../turbo/merge.ts'
import { type BlipConfig, type BlipTextConfig, readBlipConfig } from './blip-config.ts'
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

  /** `uint8 [B, H, W, 3]` -> `[B, 1 + patches, D]`. */
  #embedPatches(pixels: Value<'uint8'>): Float {
    const g = this.#g
    const { hidden_size: d, patch_size: patch, image_size: side } = this.#config.vision
    const { scale, shift } = this.#config.normalise
    const channel = (values: number[]) => g.cast(g.floats(values, [1, 3, 1, 1]), this.#type) as Float
    const planes = g.transpose(g.cast(pixels, this.#type), [0, 3, 1, 2]) as Float
    const image = g.add(g.mul(planes, channel(scale)), channel(shift))

    const at = 'vision_model.embeddings'
    const grid = g.patchConv(
      image,
      this.#load(`${at}.patch_embedding.weight`, [d, 3, patch, patch]),
      this.#load(`${at}.patch_embedding.bias`, [d]),
      patch,
    )
    const patches = g.transpose(g.reshape(grid, [0, d, -1]), [0, 2, 1])
    const cls = g.expand(
      this.#load(`${at}.class_embedding`, [1, 1, d]),
      g.concat([g.shape(patches, 0, 1), g.ints([1, d])], 0),
    )
    const position = this.#load(`${at}.position_embedding`, [1, (side / patch) ** 2 + 1, d])
    return g.add(g.concat([cls, patches], 1), position)
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
    const places = sharedPlaces(g, x, { tokens: this.#tokenCount(), width: vision.hidden_size })
    for (let layer = 0; layer < layers; layer++)
      tokens = this.#encoderBlock(layer, tokens, { r: rs[layer]!, weight: weights[layer]!, places })
    const norm = 'vision_model.post_layernorm'
    return { ...tokens, x: this.#layerNorm(tokens.x, norm, vision.hidden_size, vision.layer_norm_eps) }
  }

  #encoderBlock(
    layer: number,
    tokens: Tokens,
    { r, weight, places }: { r: Int; weight: Value<'float32'>; places: Places },
  ): Tokens {
    const g = this.#g
    const {
      hidden_size: d,
      intermediate_size: inner,
      num_attention_heads: heads,
      layer_norm_eps: epsilon,
    } = this.#config.vision
    const headWidth = d / heads
    const attention = { heads, headWidth, scale: headWidth ** -0.5, width: d }
    const count = this.#tokenCount()
    const at = `vision_model.encoder.layers.${layer}`

    const normed = this.#layerNorm(tokens.x, `${at}.layer_norm1`, d, epsilon)
    const [q, k, v] = g.split(this.#linear(normed, `${at}.self_attn.qkv`, d, 3 * d), 3, -1) as [
      Float,
      Float,
      Float,
    ]
    const { mode = 'turbo', threshold } = this.#options
    const attended =
      layer === 0 || mode === 'none'
        ? g.attention(q, k, v, heads, attention.scale)
        : proportionalAttention(g, { q, k, v }, tokens.sizes, count, attention)
    const update = this.#linear(attended, `${at}.self_attn.projection`, d, d)
    const merged =
      mode === 'none'
        ? { ...tokens, x: g.add(tokens.x, update) }
        : turboMerge(g, tokens, { update, keys: k, clsQuery: g.slice(q, 1, 0, 1) }, r, weight, {
            ...attention,
            places,
            layer,
            tokens: count,
            score: mode,
            threshold,
          })

    const normed2 = this.#layerNorm(merged.x, `${at}.layer_norm2`, d, epsilon)
    const mlp = this.#mlp(normed2, `${at}.mlp.fc1`, `${at}.mlp.fc2`, d, inner)
    return { ...merged, x: g.add(merged.x, mlp) }
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
    const image2 = layers.map((layer) => this.#imageKeysValues(image, layer))
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

        const { next, present } = this.#decodeStep(body, tokens, past, image2)
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

  /** Keys `[B, heads, headWidth, M]` (transposed once, used in every step) and values `[B, heads, M, headWidth]`. */
  #imageKeysValues(image: Float, layer: number): KeysValues<Float> {
    const g = this.#g
    const { hidden_size: d, num_attention_heads: heads } = this.#config.text
    const from = this.#config.vision.hidden_size
    const perHead = (name: string, perm: number[]) => {
      const at = `text_decoder.bert.encoder.layer.${layer}.crossattention.self.${name}`
      return g.transpose(g.reshape(this.#linear(image, at, from, d), [0, 0, heads, d / heads]), perm)
    }
    return { keys: perHead('key', [0, 2, 3, 1]), values: perHead('value', [0, 2, 1, 3]) }
  }

  /** One round: `tokens int64 [B, S]` (the prompt first, then one id) -> the next id `[B, 1]` and the grown cache. */
  #decodeStep(g: Graph, tokens: Int, past: KeysValues<Float>[], image: KeysValues<Float>[]) {
    const text = this.#config.text
    const { hidden_size: d, layer_norm_eps: epsilon, vocab_size: vocabulary } = text
    const pastLength = g.shape(past[0]!.keys, 2, 3)
    const steps = g.range(g.toScalar(g.shape(tokens, 1, 2)))
    const positions = g.add(steps, pastLength)
    const keyPositions = g.range(g.toScalar(g.add(pastLength, g.shape(tokens, 1, 2))))
    const hidden = g.less(g.unsqueeze(positions, 1), keyPositions)
    const mask = g.mul(g.cast(hidden, this.#type), this.#scalar(g, -1e4)) as Float

    const at = 'text_decoder.bert.embeddings'
    const words = this.#load(`${at}.word_embeddings.weight`, [vocabulary, d])
    const places = this.#load(`${at}.position_embeddings.weight`, [text.max_position_embeddings, d])
    const embedded = g.add(g.gather(words, tokens), g.gather(places, positions))
    let x = this.#layerNorm(embedded, `${at}.LayerNorm`, d, epsilon, g)

    const present: KeysValues<Float>[] = []
    for (let layer = 0; layer < text.num_hidden_layers; layer++) {
      const block = this.#decoderBlock(g, layer, x, mask, past[layer]!, image[layer]!)
      x = block.x
      present.push(block.present)
    }

    const head = 'text_decoder.cls.predictions'
    const last = g.slice(x, 1, -1)
    const dense = g.gelu(this.#linear(last, `${head}.transform.dense`, d, d, g))
    const transformed = this.#layerNorm(dense, `${head}.transform.LayerNorm`, d, epsilon, g)
    // The output projection is the word embeddings; its bias is stored apart.
    const logits = g.gemm(g.reshape(transformed, [-1, d]), words, this.#load(`${head}.bias`, [vocabulary]))
    return { next: g.argmax(logits, -1, true), present }
  }

  /** Post-norm block: causal self attention, attention to the image, MLP. */
  #decoderBlock(
    g: Graph,
    layer: number,
    x: Float,
    mask: Float,
    past: KeysValues<Float>,
    image: KeysValues<Float>,
  ) {
    const { hidden_size: d, intermediate_size: inner, layer_norm_eps: epsilon } = this.#config.text
    const at = `text_decoder.bert.encoder.layer.${layer}`
    const perHead = (name: string, y: Float) =>
      this.#splitHeads(g, this.#linear(y, `${at}.${name}`, d, d, g), this.#config.text)
    const addAndNorm = (residual: Float, y: Float, name: string, from: number) =>
      this.#layerNorm(
        g.add(this.#linear(y, `${at}.${name}.dense`, from, d, g), residual),
        `${at}.${name}.LayerNorm`,
        d,
        epsilon,
        g,
      )

    const keys = g.concat([past.keys, perHead('attention.self.key', x)], 2)
    const values = g.concat([past.values, perHead('attention.self.value', x)], 2)
    const own = this.#attend(
      g,
      perHead('attention.self.query', x),
      { keys: g.transpose(keys, [0, 1, 3, 2]), values },
      mask,
    )
    const afterOwn = addAndNorm(x, own, 'attention.output', d)

    const seen = this.#attend(g, perHead('crossattention.self.query', afterOwn), image)
    const afterImage = addAndNorm(afterOwn, seen, 'crossattention.output', d)

    const grown = g.gelu(this.#linear(afterImage, `${at}.intermediate.dense`, d, inner, g))
    return { x: addAndNorm(afterImage, grown, 'output', inner), present: { keys, values } }
  }

  /** `query [B, heads, S, w]`, keys transposed -> `[B, S, D]`. */
  #attend(g: Graph, query: Float, { keys, values }: KeysValues<Float>, mask?: Float): Float {
    const { hidden_size: d, num_attention_heads: heads } = this.#config.text
    const scaled = g.mul(g.matmul(query, keys), this.#scalar(g, (d / heads) ** -0.5))
    const probabilities = g.softmax(mask ? g.add(scaled, mask) : scaled)
    return g.reshape(g.transpose(g.matmul(probabilities, values), [0, 2, 1, 3]), [0, 0, d])
  }

  /** `[B, S, D]` -> `[B, heads, S, D / heads]`. */
  #splitHeads(g: Graph, x: Float, { hidden_size: d, num_attention_heads: heads }: BlipTextConfig): Float {
    return g.transpose(g.reshape(x, [0, 0, heads, d / heads]), [0, 2, 1, 3])
  }

  // Layers

  /** `[B, N, from]` -> `[B, N, to]`. */
  #linear(x: Float, name: string, from: number, to: number, g = this.#g): Float {
    const y = this.#flatLinear(g.reshape(x, [-1, from]), name, from, to, g)
    return g.reshape(y, this.#tokenShape(to))
  }

  #flatLinear(rows: Float, name: string, from: number, to: number, g: Graph): Float {
    return g.gemm(rows, this.#load(`${name}.weight`, [to, from]), this.#load(`${name}.bias`, [to]))
  }

  #mlp(x: Float, first: string, second: string, width: number, inner: number): Float {
    const g = this.#g
    const grown = g.gelu(this.#flatLinear(g.reshape(x, [-1, width]), first, width, inner, g))
    const back = this.#flatLinear(grown, second, inner, width, g)
    return g.reshape(back, this.#tokenShape(width))
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

  #scalar(g: Graph, value: number): Float {
    return g.scalar(value, { name: '', type: this.#type } as Float)
  }

  /** A weight in the outermost graph, loaded once; loop bodies see it from there. */
  #load(name: string, shape: number[]): Float {
    const known = this.#loaded.get(name)
    if (known) return known
    const value = this.#weights.load(this.#g, name, shape, this.#type) as Float
    this.#loaded.set(name, value)
    return value
  }
}
