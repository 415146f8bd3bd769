import { basename, join, resolve } from 'node:path'
import { Graph } from '../onnx/graph.ts'
import type { Float } from '../onnx/operators.ts'
import { Weights } from '../onnx/weights.ts'
import { type BlipConfig, readBlipConfig } from './blip-config.ts'
import { BlipDecoder } from './blip-decoder.ts'
import { BlipEncoder } from './blip-encoder.ts'
import { BlipLayers } from './blip-layers.ts'
import { readGenerationDefaults } from './generation.ts'
import { readLevels } from './levels.ts'
import type { CaptionModel, GraphOptions } from './model.ts'
import type { PictureRule } from './pictures.ts'
import { type EncodedPrompt, PromptError, type PromptRequest } from './prompts.ts'
import { type CaptionTokenizer, loadTokenizer } from './tokenizer.ts'

/** A BLIP captioner, with what its one graph takes. */
export interface BlipModel extends CaptionModel {
  picture: Extract<PictureRule, { kind: 'squash' }>
  /** Maximum ids of a caption without a prompt, start and end id included. */
  maxLength: number
  /** Maximum ids of the caller's text. */
  maxPromptLength: number
  startId: number
  endId: number
  padId: number
  buildGraph(options?: GraphOptions): Uint8Array
}

/**
 * Opens a Hugging Face BLIP captioning folder of any size.
 *
 * Li et al., "BLIP", ICML 2022; tensor names and defaults as in Hugging Face's `BlipForConditionalGeneration`.
 * @throws ModelFolderError when a file or a tensor is missing, or does not fit the configuration.
 */
export async function openBlip(folder: string): Promise<BlipModel> {
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
  const buildGraph = (options: GraphOptions = {}) => blipGraph(config, weights, options)
  const tokenizer = await loadTokenizer(folder)
  // Building checks every tensor's name and shape, before anything is loaded.
  buildGraph()
  const startId = text.bos_token_id
  const endId = text.sep_token_id
  const { image_size: side } = vision
  const maxTokens = Math.max(1, config.maxLength - 1)
  const { settings, unhonoured } = await readGenerationDefaults(folder, {
    endIds: [endId],
    sampling: false,
    forcedEnd: false,
  })
  return {
    id: basename(resolve(folder)),
    folder,
    family: 'blip',
    picture: { kind: 'squash', height: side, width: side, resample: config.resample },
    patch: vision.patch_size,
    encoder,
    levels: await readLevels(folder, encoder),
    follows: 'none',
    maxPictures: 1,
    encode: (request) => encode(request, { tokenizer, startId, maxIds: maxPromptLength(config) }),
    decode: tokenizer.decode,
    endIds: [endId],
    // Words are never sampled.
    generation: { ...settings, ...greedySampling, maxTokens },
    unhonoured,
    maxTokens,
    honours: ['maxTokens', 'minTokens', 'repetitionPenalty', 'noRepeatNgram', 'beams'],
    runner: {
      ...{ kind: 'captioner', lengths: 'equal', height: side, width: side, endId },
      stepwise: { maxLength: config.maxLength, maxNewTokens: config.maxNewTokens },
    },
    weightFiles: ['model.safetensors'],
    buildSessions: async (options = {}) => ({
      caption: { graph: buildGraph(options), folder },
      encoder: { graph: blipEncoderGraph(config, weights, options), folder, onDemand: true },
      decoder: { graph: blipStepGraph(config, weights, options), folder, onDemand: true },
    }),
    maxLength: config.maxLength,
    maxPromptLength: maxPromptLength(config),
    startId,
    endId,
    padId: text.pad_token_id,
    buildGraph,
  }
}

const greedySampling = { temperature: 0, topP: 1 }

interface BlipPrompts {
  tokenizer: CaptionTokenizer
  startId: number
  /** Maximum ids of the caller's text. */
  maxIds: number
}

/** Start id, then the ids of the text, which the caption continues. */
async function encode({ text, beginning = '' }: PromptRequest, blip: BlipPrompts): Promise<EncodedPrompt> {
  const begun = [text, beginning].filter(Boolean).join(' ')
  const ids = begun ? blip.tokenizer.encodePrompt(begun) : []
  if (ids.length > blip.maxIds)
    throw new PromptError(
      'prompt_too_long',
      `The prompt has ${ids.length} tokens; this model accepts at most ${blip.maxIds}. Shorten it.`,
    )
  return { ids: [blip.startId, ...ids], places: [], answer: 0 }
}

/** Prompt ids that leave room for the start token and one id more. */
function maxPromptLength({ maxLength, maxNewTokens, text }: BlipConfig): number {
  return Math.max(0, (maxNewTokens ? text.max_position_embeddings - maxNewTokens : maxLength - 1) - 1)
}

/** One build of the graph: pixels in, token ids out. */
function blipGraph(config: BlipConfig, weights: Weights, options: GraphOptions): Uint8Array {
  const { decoder = true, trace = false } = options
  const { hidden_size: width } = config.vision
  const g = new Graph()
  const { batch = 'B' } = options
  const prompt = g.input('prompt', 'int64', [batch, 'P'])
  const limit = g.input('limit', 'int64', [batch, 1])
  const { shared, encoded } = encodedPixels(g, config, weights, options)
  if (decoder)
    g.output('ids', new BlipDecoder(g, shared, config).generate(encoded.x, prompt, limit), ['B', 'T'])
  if (trace || !decoder) g.output('tokens', g.cast(encoded.x, 'float32'), ['B', 'M', width])
  if (trace) {
    g.output('sizes', g.reshape(encoded.sizes, [0, -1]), ['B', 'M'])
    g.output('source', encoded.source!, ['B', 'N'])
  }
  return g.toModel()
}

/** The encoder of a graph, with its inputs. */
function encodedPixels(g: Graph, config: BlipConfig, weights: Weights, options: GraphOptions) {
  const { image_size: side, num_hidden_layers: layers } = config.vision
  const pixels = g.input('pixels', 'uint8', [options.batch ?? 'B', side, side, 3])
  const r = g.input('r', 'int64', [layers])
  const weight = g.input('weight', 'float32', [layers])
  const shared = new BlipLayers(g, weights, {
    type: typeOf(options),
    batch: g.shape(pixels, 0, 1),
    gpu: options.gpu,
  })
  return { shared, encoded: new BlipEncoder(g, shared, config, options).encode(pixels, r, weight) }
}

const typeOf = ({ float16 = false }: GraphOptions) => (float16 ? 'float16' : 'float32')

/** Keys and values of a layer, and their sizes; `length` is that of the third axis. */
const portsOf = ({ text }: BlipConfig, name: string, length: string) =>
  Array.from({ length: text.num_hidden_layers }, (_, layer) => ({
    keys: `${name}.${layer}.keys`,
    values: `${name}.${layer}.values`,
    shape: ['B', text.num_attention_heads, length, text.hidden_size / text.num_attention_heads],
  }))

/** For captions that are made step by step: pixels in, keys and values of the image out. */
function blipEncoderGraph(config: BlipConfig, weights: Weights, options: GraphOptions): Uint8Array {
  const g = new Graph()
  const { shared, encoded } = encodedPixels(g, config, weights, options)
  const image = new BlipDecoder(g, shared, config).imageKeysValues(encoded.x)
  for (const [layer, { keys, values, shape }] of portsOf(config, 'image', 'M').entries()) {
    g.output(keys, g.cast(image[layer]!.keys, 'float32'), shape)
    g.output(values, g.cast(image[layer]!.values, 'float32'), shape)
  }
  return g.toModel()
}

/** One step of such captions: `input_ids int64 [B, S]`, the image's keys and values, and caches, to `logits float32 [B, 1, V]`. */
function blipStepGraph(config: BlipConfig, weights: Weights, options: GraphOptions): Uint8Array {
  const g = new Graph()
  const type = typeOf(options)
  const ids = g.input('input_ids', 'int64', ['B', 'S'])
  const shared = new BlipLayers(g, weights, { type, batch: g.shape(ids, 0, 1), gpu: options.gpu })
  const read = (name: string, length: string) =>
    portsOf(config, name, length).map(({ keys, values, shape }) => ({
      keys: g.cast(g.input(keys, 'float32', shape), type) as Float,
      values: g.cast(g.input(values, 'float32', shape), type) as Float,
    }))
  const decoder = new BlipDecoder(g, shared, config)
  const { logits, present } = decoder.step(ids, read('past_key_values', 'P'), read('image', 'M'))
  const { vocab_size: vocabulary } = config.text
  g.output('logits', g.unsqueeze(g.cast(logits, 'float32'), 1), ['B', 1, vocabulary])
  for (const [layer, { keys, values, shape }] of portsOf(config, 'present', 'Q').entries()) {
    g.output(keys, g.cast(present[layer]!.keys, 'float32'), shape)
    g.output(values, g.cast(present[layer]!.values, 'float32'), shape)
  }
  return g.toModel()
}
