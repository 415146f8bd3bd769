import type { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Int } from '../onnx/operators.ts'
import type { BlipConfig } from './blip-config.ts'
import type { BlipLayers } from './blip-layers.ts'

/** Keys and values of one layer's attention, per head. */
export interface KeysValues<F extends Float> {
  keys: F
  values: F
}

/** Text decoder of BLIP: greedy in a loop inside the graph, image tokens in and ids out, or one step of it. */
export class BlipDecoder {
  readonly #g: Graph
  readonly #layers: BlipLayers
  readonly #config: BlipConfig

  constructor(g: Graph, layers: BlipLayers, config: BlipConfig) {
    this.#g = g
    this.#layers = layers
    this.#config = config
  }

  /** Greedy captions of at most `limit int64 [B, 1]` ids: `prompt int64 [B, P]` -> `ids int64 [B, T]`, prompt included. */
  generate(image: Float, prompt: Int, limit: Int): Int {
    const g = this.#g
    const { text, maxLength, maxNewTokens } = this.#config
    const headWidth = text.hidden_size / text.num_attention_heads
    const batch = g.shape(prompt, 0, 1)
    const layers = Array.from({ length: text.num_hidden_layers }, (_, layer) => layer)
    const crossAttention = this.imageKeysValues(image)
    const pad = g.ints(text.pad_token_id)

    const nothing = g.op(
      'ConstantOfShape',
      [g.concat([batch, g.ints([text.num_attention_heads, 0, headWidth])], 0)],
      ['float32'],
    )[0]
    const cache = layers.flatMap(() => [
      g.cast(nothing, this.#layers.type),
      g.cast(nothing, this.#layers.type),
    ])
    const ended = g.expand(g.cast(g.ints(0), 'bool'), g.concat([batch, g.ints([1])], 0))
    const trips = maxNewTokens
      ? g.ints(maxNewTokens)
      : g.sub(g.ints(maxLength), g.toScalar(g.shape(prompt, 1, 2)))
    const cacheShape = (length: string) => ['B', text.num_attention_heads, length, headWidth]

    const outputs = g.loop(
      trips,
      [prompt, ended, limit, ...cache],
      ['int64', 'bool', 'int64', ...cache.map(() => this.#layers.type), 'int64'],
      (body) => {
        const name = (prefix: string) => body.uniqueName(prefix)
        body.input(name('round'), 'int64', [])
        body.input(name('going'), 'bool', [])
        const tokens = body.input(name('tokens'), 'int64', ['B', 'S'])
        const wasEnded = body.input(name('ended'), 'bool', ['B', 1])
        // Counted down: the round's number is with the host.
        const left = body.input(name('left'), 'int64', ['B', 1])
        const past = layers.map(() => ({
          keys: body.input(name('keys'), this.#layers.type, cacheShape('past')) as Float,
          values: body.input(name('values'), this.#layers.type, cacheShape('past')) as Float,
        }))

        const { logits, present } = this.step(tokens, past, crossAttention, body)
        const next = body.argmax(logits, -1, true)
        const emitted = body.where(wasEnded, pad, next)
        const nowLeft = body.sub(left, g.ints(1))
        const atEnd: Bool = body.or(
          body.equal(emitted, g.ints(text.sep_token_id)),
          body.equal(nowLeft, g.ints(0)),
        )
        const nowEnded: Bool = body.or(wasEnded, atEnd)

        body.output(name('going'), body.not(body.all(nowEnded)), [])
        body.output(name('tokens'), emitted, ['B', 1])
        body.output(name('ended'), nowEnded, ['B', 1])
        body.output(name('left'), nowLeft, ['B', 1])
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

  /** Keys and values `[B, heads, M, headWidth]` of the image in each layer, used in every step. */
  imageKeysValues(image: Float): KeysValues<Float>[] {
    const { num_hidden_layers: layers } = this.#config.text
    const rows = this.#layers.rows(image, this.#config.vision.hidden_size)
    return Array.from({ length: layers }, (_, layer) => this.#keysValuesOf(rows, layer))
  }

  #keysValuesOf(imageRows: Float, layer: number): KeysValues<Float> {
    const g = this.#g
    const { hidden_size: d, num_attention_heads: heads } = this.#config.text
    const from = this.#config.vision.hidden_size
    const perHead = (name: string) => {
      const at = `text_decoder.bert.encoder.layer.${layer}.crossattention.self.${name}`
      // Without their biases: as in the encoder, softmax does not see that of the keys, and that of the values is added later.
      const rows = g.gemm(imageRows, this.#layers.load(`${at}.weight`, [d, from]))
      return g.transpose(
        g.reshape(g.reshape(rows, this.#layers.tokenShape(d)), [0, 0, heads, d / heads]),
        [0, 2, 1, 3],
      )
    }
    return { keys: perHead('key'), values: perHead('value') }
  }

  /** One round: `tokens int64 [B, S]` (the prompt first, then one id) -> the logits of the next id `[B, V]` and the grown cache. */
  step(tokens: Int, past: KeysValues<Float>[], image: KeysValues<Float>[], g = this.#g) {
    const text = this.#config.text
    const { hidden_size: d, layer_norm_eps: epsilon, vocab_size: vocabulary } = text
    const steps = g.range(g.toScalar(g.shape(tokens, 1, 2)))
    const positions = g.add(steps, g.shape(past[0]!.keys, 2, 3))

    const at = 'text_decoder.bert.embeddings'
    const words = this.#layers.load(`${at}.word_embeddings.weight`, [vocabulary, d])
    const places = this.#layers.load(`${at}.position_embeddings.weight`, [text.max_position_embeddings, d])
    const embedded = g.add(g.gather(words, tokens), g.gather(places, positions))
    const shape = g.concat([g.shape(tokens), g.ints([d])], 0)
    let x = this.#layers.layerNorm(this.#layers.rows(embedded, d, g), `${at}.LayerNorm`, d, epsilon, g)

    const present: KeysValues<Float>[] = []
    for (let layer = 0; layer < text.num_hidden_layers; layer++) {
      const block = this.#decoderBlock(g, layer, x, shape, past[layer]!, image[layer]!)
      x = block.x
      present.push(block.present)
    }

    const head = 'text_decoder.cls.predictions'
    const last = this.#layers.rows(g.slice(g.reshape(x, shape), 1, -1), d, g)
    const dense = this.#layers.linearGelu(last, `${head}.transform.dense`, d, d, g)
    const transformed = this.#layers.layerNorm(dense, `${head}.transform.LayerNorm`, d, epsilon, g)
    // The output projection is the word embeddings; its bias is stored apart.
    const logits = g.gemm(transformed, words, this.#layers.load(`${head}.bias`, [vocabulary]))
    return { logits, present }
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
      return this.#layers.linearAddNorm(
        y,
        skip,
        { ...linear, width: d, epsilon: text.layer_norm_eps },
        undefined,
        g,
      ).normed
    }

    const { weight, bias } = this.#packedSelfAttention(`${at}.attention.self`, d)
    const [query, key, value] = g.split(g.gemm(x, weight), 3, 1).map((part) => g.reshape(part, shape)) as [
      Float,
      Float,
      Float,
    ]
    const own = g.causalAttention({ query, key, value, bias }, past, heads, scale)
    const afterOwn = addAndNorm(x, this.#layers.rows(own.attended, d, g), 'attention.output', d)

    const cross = `${at}.crossattention`
    const asked = g.add(
      g.gemm(afterOwn, this.#layers.load(`${cross}.self.query.weight`, [d, d])),
      this.#layers.load(`${cross}.self.query.bias`, [d]),
    )
    const seen = g.attention(g.reshape(asked, shape), image.keys, image.values, heads, scale)
    const valueBias = this.#layers.constant(`${cross}.self.value.bias`, [d])
    const crossBias = this.#layers.biasWith(valueBias, `${cross}.output.dense`, d)
    const afterImage = addAndNorm(
      afterOwn,
      this.#layers.rows(seen, d, g),
      'crossattention.output',
      d,
      crossBias,
    )

    const grown = this.#layers.linearGelu(afterImage, `${at}.intermediate.dense`, d, inner, g)
    return { x: addAndNorm(afterImage, grown, 'output', inner), present: own.present }
  }

  /** Weight `[3 * width, width]` and bias `[3 * width]` of query, key and value, joined when the session loads. */
  #packedSelfAttention(at: string, width: number): { weight: Float; bias: Float } {
    const join = (part: string, shape: number[]) =>
      this.#layers.once(`${at} ${part}`, () =>
        this.#g.concat(
          ['query', 'key', 'value'].map((name) => this.#layers.load(`${at}.${name}.${part}`, shape)),
          0,
        ),
      )
    return { weight: join('weight', [width, width]), bias: join('bias', [width]) }
  }
}
