import { basename, join, resolve } from 'node:path'
import { Graph } from '../onnx/graph.ts'
import { Weights } from '../onnx/weights.ts'
import { type BlipConfig, readBlipConfig } from './blip-config.ts'
import { BlipDecoder } from './blip-decoder.ts'
import { BlipEncoder } from './blip-encoder.ts'
import { BlipLayers } from './blip-layers.ts'
import { greedy } from './generation.ts'
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
    generation: greedy(Math.max(1, config.maxLength - 1)),
    honours: ['maxTokens'],
    runner: { kind: 'captioner', lengths: 'equal', height: side, width: side, endId },
    weightFiles: ['model.safetensors'],
    buildSessions: async (options) => ({ caption: { graph: buildGraph(options), folder } }),
    maxLength: config.maxLength,
    maxPromptLength: maxPromptLength(config),
    startId,
    endId,
    padId: text.pad_token_id,
    buildGraph,
  }
}

interface BlipPrompts {
  tokenizer: CaptionTokenizer
  startId: number
  /** Maximum ids of the caller's text. */
  maxIds: number
}

/** Start id, then the ids of the text, which the caption continues. */
function encode({ text, beginning = '' }: PromptRequest, blip: BlipPrompts): EncodedPrompt {
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
  const { decoder = true, trace = false, float16 = false } = options
  const { image_size: side, num_hidden_layers: layers, hidden_size: width } = config.vision
  const g = new Graph()
  const pixels = g.input('pixels', 'uint8', ['B', side, side, 3])
  const prompt = g.input('prompt', 'int64', ['B', 'P'])
  const limit = g.input('limit', 'int64', ['B', 1])
  const r = g.input('r', 'int64', [layers])
  const weight = g.input('weight', 'float32', [layers])

  const type = float16 ? 'float16' : 'float32'
  const shared = new BlipLayers(g, weights, { type, batch: g.shape(pixels, 0, 1) })
  const encoded = new BlipEncoder(g, shared, config, options).encode(pixels, r, weight)
  if (decoder)
    g.output('ids', new BlipDecoder(g, shared, config).generate(encoded.x, prompt, limit), ['B', 'T'])
  if (trace || !decoder) g.output('tokens', g.cast(encoded.x, 'float32'), ['B', 'M', width])
  if (trace) {
    g.output('sizes', g.reshape(encoded.sizes, [0, -1]), ['B', 'M'])
    g.output('source', encoded.source!, ['B', 'N'])
  }
  return g.toModel()
}
