import { Graph } from '../../onnx/graph.ts'
import type { Int, Shape, Value } from '../../onnx/operators.ts'
import type { GraphProto } from '../../onnx/proto.ts'
import { cacheShape, endedFromStart, pastOf } from './decoder-graph.ts'
import {
  type Carried,
  carriedState,
  columnAt,
  decodingLoop,
  type EndIds,
  embedded,
  type GenerateGraph,
  nextIds,
  onePosition,
  rowInputs,
  stateOf,
  vocabularyOf,
} from './graph.ts'
import { ExportedPart, isBatchInvariant, joinOpsets, type Port } from './part.ts'

export interface EncoderGraphOptions extends EndIds {
  /** Folder that the session will read weights from. */
  folder: string
  /** `decoder_model_merged*.onnx` with a branch for the first ids and one for the others. */
  decoder: string
  /** `embed_tokens*.onnx` and `encoder_model*.onnx` where a text is encoded with the picture. Default: features are the encoder's output. */
  text?: { embed: string; encoder: string }
  headWidth?: number
}

/**
 * Joins the sessions of an encoder-decoder into one graph that generates. The branches of the merged decoder are
 * resolved: the one without caches is run once, the other is the body of a loop; keys and values of the encoder are
 * made once. Inputs, beside those of `rowInputs`: `features float32 [N, D]`, `decoder_input_ids int64 [B, P]`, and with a
 * text `input_ids int64 [B, S]`, `places int64 [N, 2]` and `attention_mask int64 [B, S]`; without one N is the same for
 * all rows. Output: `ids int64 [B, T]`, those behind `decoder_input_ids`.
 * @throws ModelFolderError
 */
export function encoderGraph(options: EncoderGraphOptions): GenerateGraph {
  const { folder, endIds, padId, bans, headWidth } = options
  const part = (file: string, tag: string) => new ExportedPart(file, tag, { folder })
  const decoder = part(options.decoder, 'decoder')
  const text = options.text && {
    embed: part(options.text.embed, 'embed'),
    encoder: part(options.text.encoder, 'encoder'),
  }
  const modelOptions = joinOpsets([decoder, ...(text ? [text.embed, text.encoder] : [])])
  const branches = branchesOf(decoder)
  const caches = cachesOf(decoder)
  const own = caches.filter(({ output }) => !output.name.includes('.encoder.'))
  checkInputs(
    decoder,
    caches.map(({ input }) => input.name),
  )

  const g = new Graph()
  const ids = g.input('decoder_input_ids', 'int64', ['B', 'P'])
  const rows = rowInputs(g)
  const encoded = text ? encodedText(g, text) : encodedFeatures(g, decoder, ids)
  const idsFor = (graph: Graph, prefix: string, made: Int): Record<string, Value> => {
    if (!decoder.inputs.has('inputs_embeds')) return { input_ids: made }
    if (!text) return decoder.fail('takes inputs_embeds, but there is no embed_tokens. Pull the model again.')
    return { inputs_embeds: embedded(graph, text.embed, prefix, made, decoder.input('inputs_embeds').type) }
  }
  const run = (graph: Graph, prefix: string, branch: GraphProto, bind: Record<string, Value>) => {
    const named = decoder.inline(graph, prefix, { ...encoded.bind, ...bind }, branch)
    // A branch gives its outputs in the order of the node that chose it.
    const values = branch.output.map(({ name }, at) => {
      const port = decoder.output(branches.outputs[at]!)
      return [port.name, { name: named(name), type: port.type }] as const
    })
    return Object.fromEntries<Value>(values)
  }
  const choose = (graph: Graph, logits: Value, values: Record<string, Value>, round: Int) =>
    nextIds(
      graph,
      onePosition(graph, graph.slice(logits, 1, -1)),
      stateOf(values),
      columnAt(graph, rows.uniform, round),
      rows.settings,
      {
        endIds,
        padId,
        bans,
      },
    )

  const first = run(g, 'first/', branches.first, idsFor(g, 'first/embed/', ids))
  const start = carriedState({
    ended: endedFromStart(g, rows.limit),
    left: rows.limit,
    history: rows.history,
  })
  const state = choose(
    g,
    first.logits!,
    Object.fromEntries(start.map(({ name, value }) => [name, value])),
    g.ints(0),
  )
  const outside = Object.fromEntries(
    caches
      .filter((each) => !own.includes(each))
      .map(({ input, output }) => [input.name, first[output.name]!]),
  )
  const carried: Carried[] = [
    { name: 'made', value: state.made, shape: ['B', 1] },
    ...carriedState(state.state),
    ...own.map(({ input, output }) => ({
      name: input.name,
      value: first[output.name]!,
      shape: cacheShape(decoder, input, 'p', headWidth) as Shape,
    })),
  ]
  const one = g.ints(1)
  const [trips] = g.op('Max', [g.sub(rows.steps, one), one], ['int64'])
  const lastColumn = g.sub(g.toScalar(g.shape(rows.uniform, 1, 2)), one)
  const rest = decodingLoop(g, trips, carried, (body, values, index) => {
    const outputs = run(body, 'next/', branches.next, {
      ...idsFor(body, 'next/embed/', values.made as Int),
      ...outside,
      ...Object.fromEntries(own.map(({ input }) => [input.name, values[input.name]!])),
    })
    const round = body.min(body.add(index, body.ints(1)), lastColumn)
    const next = choose(body, outputs.logits!, values, round)
    return {
      made: next.made,
      ended: next.state.ended,
      next: {
        made: next.made,
        ...Object.fromEntries(carriedState(next.state).map(({ name, value }) => [name, value])),
        ...Object.fromEntries(own.map(({ input, output }) => [input.name, outputs[output.name]!])),
      },
    }
  })
  g.output('ids', g.concat([state.made, rest.ids], 1), ['B', 'T'])
  return {
    model: g.toModel(modelOptions),
    metadata: {
      form: text ? 'encoder' : 'features',
      endIds,
      padId,
      width: encoded.width,
      vocabulary: vocabularyOf(decoder),
      positions: 0,
      caches: [],
      contiguous: false,
      equalLengths: true,
      batchInvariant: isBatchInvariant(
        decoder.model,
        ...(text ? [text.embed.model, text.encoder.model] : []),
      ),
    },
  }
}

interface Encoded {
  bind: Record<string, Value>
  width: number
}

/** The encoder over a text whose places for the picture have its features. */
function encodedText(g: Graph, { embed, encoder }: { embed: ExportedPart; encoder: ExportedPart }): Encoded {
  const port = encoder.input('inputs_embeds')
  const width = widthOf(encoder, port)
  const ids = g.input('input_ids', 'int64', ['B', 'S'])
  const places = g.input('places', 'int64', ['N', 2])
  const features = g.input('features', 'float32', ['N', width])
  const mask = g.input('attention_mask', 'int64', ['B', 'S'])
  const text = embedded(g, embed, 'text/', ids, port.type)
  const x = g.scatterSlices(text, places, g.cast(features, port.type))
  const named = encoder.inline(g, 'encoder/', { inputs_embeds: x, attention_mask: mask })
  const states: Value = { name: named('last_hidden_state'), type: encoder.output('last_hidden_state').type }
  return { bind: { encoder_hidden_states: states, encoder_attention_mask: mask }, width }
}

/** Features that are what the decoder attends to, as many for each row. */
function encodedFeatures(g: Graph, decoder: ExportedPart, ids: Int): Encoded {
  const port = decoder.input('encoder_hidden_states')
  const width = widthOf(decoder, port)
  const features = g.input('features', 'float32', ['N', width])
  const rows = g.shape(ids, 0, 1)
  const states = g.reshape(features, g.concat([rows, g.ints([-1, width])], 0))
  const mask = g.expand(g.ints([1]), g.shape(states, 0, 2))
  return { bind: { encoder_hidden_states: g.cast(states, port.type), encoder_attention_mask: mask }, width }
}

function widthOf(part: ExportedPart, { name, dims }: Port): number {
  const width = dims.at(-1)
  return typeof width === 'number'
    ? width
    : part.fail(`does not tell the width of ${name}. Export the model again.`)
}

/** The branches of a merged decoder: without caches, and with them. */
function branchesOf(decoder: ExportedPart): { first: GraphProto; next: GraphProto; outputs: string[] } {
  const choice = decoder.graph.node.filter(({ opType }) => opType === 'If')
  const [node] = choice
  const branch = (name: string) => node?.attribute?.find((each) => each.name === name)?.g
  const [first, next] = [branch('else_branch'), branch('then_branch')]
  const isMerged =
    choice.length === 1 && decoder.graph.node.length === 1 && node!.input[0] === 'use_cache_branch'
  if (!isMerged || !first || !next)
    return decoder.fail(
      'is no merged decoder (If on use_cache_branch). Export it with optimum, or pull decoder_model_merged.onnx.',
    )
  return { first, next, outputs: node!.output }
}

function cachesOf(decoder: ExportedPart): { input: Port; output: Port }[] {
  return [...decoder.outputs.values()]
    .filter(({ name }) => name.startsWith('present'))
    .map((output) => ({ input: decoder.input(pastOf(output.name)), output }))
}

const ownInputs = [
  'inputs_embeds',
  'input_ids',
  'encoder_hidden_states',
  'encoder_attention_mask',
  'use_cache_branch',
]

function checkInputs(decoder: ExportedPart, caches: string[]): void {
  decoder.output('logits')
  const known = new Set([...ownInputs, ...caches])
  for (const name of decoder.inputs.keys())
    if (!known.has(name)) decoder.fail(`needs the input ${name}, which is not known.`)
}
