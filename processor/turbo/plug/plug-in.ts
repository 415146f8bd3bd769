import { runtimeDomain } from '../../onnx/operators.ts'
import { convertOpset, OpsetError, opsetOf } from '../../onnx/opset.ts'
import { inOrder, neededNodes } from '../../onnx/order.ts'
import { type Feeds, Probe } from '../../onnx/probe.ts'
import { dataTypes, type GraphProto, type ModelProto, type ValueInfoProto } from '../../onnx/proto.ts'
import { type Block, findBlocks, prefixOf } from './blocks.ts'
import { Encoder } from './encoder.ts'
import { plainGraph } from './plain.ts'
import { PlugRefusal } from './refusal.ts'
import { NeedsMore, type RewriteOptions, rewrite } from './rewrite.ts'

export interface PlugOptions {
  /**
   * Inputs of a run that shows the encoder's tensors, best with two images; the image size is fixed by it. Masks that
   * hide nothing in it are taken out: images have no padding.
   */
  feeds: Feeds
  /** Name of the input that holds the image. Default: the one among `feeds` of most elements. */
  pixels?: string
  /** Folder that external data is relative to. */
  folder: string
  /** Gives back one row for each token at the outputs, for consumers that need a fixed number. */
  unmergeAtOutput?: boolean
  /** Tokens at the front that stand for no patch, CLS first. Default: what the graph puts before the patches. */
  prefix?: number
  /** Blocks that fewer tokens enter do not merge. Default 40. */
  threshold?: number
  /** Adds the output `source int64 [B, N]`: for every token that enters the one that holds it in the end. */
  trace?: boolean
  /** Uses operators that are fastest on a GPU. */
  gpu?: boolean
}

/** An encoder with Turbo inside. */
export interface Plugged {
  /** Has the inputs `r int64 [layers]` and `weight float32 [layers]` more. */
  model: ModelProto
  /** Blocks in which tokens merge. */
  layers: number
  /** Width of the hidden state. */
  width: number
  heads: number
  /** Tokens that enter the encoder, CLS and registers included. */
  tokensIn: number
  /** True when the first token is CLS. */
  cls: boolean
  /** Tokens at the front that stand for no patch. */
  prefix: number
  /** True when the outputs have a row for each token again. */
  unmerged: boolean
  /** Names of the additions behind which tokens merge, in order. */
  blocks: string[]
}

/**
 * Puts Turbo into an exported vision encoder, of any exporter: tokens merge behind the attention of every block, as
 * `turboMerge` has it, and whatever reads tokens afterwards is corrected, or gets them unmerged. With r all zero the
 * outputs are the original's within rounding. The attention of the blocks becomes ONNX Runtime's fused operator.
 *
 * @throws PlugRefusal with the reason where that cannot be exact
 * @example const { model } = await plugTurbo(readOnnx(file), { feeds: { pixel_values }, folder: dirname(file) })
 */
export async function plugTurbo(original: ModelProto, options: PlugOptions): Promise<Plugged> {
  const { feeds, folder } = options
  const model = await readable(original, feeds, folder)
  const pixels = options.pixels ?? largest(feeds)
  const encoder = await opened(model, feeds, pixels, folder)
  const blocks = await findBlocks(encoder)
  const [{ stream, attention }] = blocks as [Block]
  const [, tokensIn, width] = encoder.shape(stream) as [number, number, number]
  const prefix = options.prefix ?? prefixOf(encoder, stream)
  const types = await floatTypes(encoder, blocks)
  const keepAttentions = model.graph.node.some(({ opType }) => opType === 'DynamicQuantizeLinear')
  const settings = { ...options, prefix, tokens: tokensIn, width, types, keepAttentions }
  const { graph, unmerged } = rewritten(encoder, blocks, settings)
  return {
    model: finished(model, graph, blocks.length),
    layers: blocks.length,
    width,
    heads: attention.heads,
    tokensIn,
    cls: prefix > 0,
    prefix,
    unmerged,
    blocks: blocks.map(({ residual }) => residual.name || residual.output[0]!),
  }
}

async function opened(model: ModelProto, feeds: Feeds, pixels: string, folder: string): Promise<Encoder> {
  try {
    return await Encoder.open(model, feeds, pixels, folder)
  } catch (cause) {
    const [line] = (cause as Error).message.split('\n')
    throw new PlugRefusal(`its tensors cannot be looked at: ${line}`, { cause })
  }
}

/** Version of ONNX's operators that older models are written in, to be searched. */
const searchedOpset = 18

/** A model in the form that is searched: sorted, in a known opset, with fused operators taken apart. */
async function readable(original: ModelProto, feeds: Feeds, folder: string): Promise<ModelProto> {
  if (original.functions?.length) throw new PlugRefusal('it has functions of its own')
  try {
    const sorted = { ...original, graph: { ...original.graph, node: inOrder(original.graph), valueInfo: [] } }
    const ranks = opsetOf(original) < 13 ? await new Probe(sorted, feeds, folder).shapes() : undefined
    const rankOf = (tensor: string) => ranks?.get(tensor)?.length
    const converted = convertOpset(sorted, searchedOpset, { rankOf })
    return { ...converted, graph: plainGraph(converted.graph) }
  } catch (cause) {
    if (cause instanceof OpsetError) throw new PlugRefusal(`it ${cause.message}`, { cause })
    throw cause
  }
}

const largest = (feeds: Feeds): string =>
  Object.entries(feeds).toSorted(([, a], [, b]) => b.size - a.size)[0]![0]

/** Operators that are given the sizes of tokens. */
const weighing = new Set(['Softmax', 'ReduceMean', 'Attention', 'MultiHeadAttention'])

/** Element types of what Turbo computes with. */
async function floatTypes(encoder: Encoder, blocks: Block[]): Promise<Map<string, string>> {
  const inBlocks = blocks.flatMap(({ stream, update, attention: { q, k, v } }) => [stream, update, q, k, v])
  const read = encoder.view.graph.node
    .filter(({ opType }) => weighing.has(opType))
    .map(({ input }) => input[0]!)
    .filter((name) => encoder.isPixels(name))
  return encoder.probe.types(new Set([...inBlocks, ...read]))
}

/** Where tokens went costs a little, so it is followed only where it turns out to be needed. */
function rewritten(
  encoder: Encoder,
  blocks: Block[],
  settings: Omit<RewriteOptions, 'source' | 'unmergeAt'>,
): ReturnType<typeof rewrite> {
  let source = settings.trace || settings.unmergeAtOutput || false
  const unmergeAt = new Set<string>()
  for (;;) {
    try {
      return rewrite(encoder, blocks, { ...settings, source, unmergeAt })
    } catch (error) {
      if (!(error instanceof NeedsMore)) throw error
      source = true
      if (error.unmergeAt) unmergeAt.add(error.unmergeAt)
    }
  }
}

function finished(model: ModelProto, graph: GraphProto, layers: number): ModelProto {
  const added: ValueInfoProto[] = [
    {
      name: 'r',
      type: { tensorType: { elemType: dataTypes.int64, shape: { dim: [{ dimValue: layers }] } } },
    },
    {
      name: 'weight',
      type: { tensorType: { elemType: dataTypes.float32, shape: { dim: [{ dimValue: layers }] } } },
    },
  ]
  const opsets = model.opsetImport.some(({ domain }) => domain === runtimeDomain)
    ? model.opsetImport
    : [...model.opsetImport, { domain: runtimeDomain, version: 1 }]
  const constants = new Set((graph.initializer ?? []).map(({ name }) => name))
  return {
    ...model,
    irVersion: Math.max(model.irVersion, 8),
    opsetImport: opsets,
    graph: {
      ...graph,
      node: neededNodes(
        graph.node,
        graph.output.map(({ name }) => name),
      ),
      input: [...graph.input.filter(({ name }) => !constants.has(name)), ...added],
      valueInfo: [],
    },
  }
}
