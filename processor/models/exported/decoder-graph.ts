import { Graph } from '../../onnx/graph.ts'
import type { Int, Value } from '../../onnx/operators.ts'
import type { DataType } from '../../onnx/proto.ts'
import { cutBeforeOutputLayer, lastInput } from './cut.ts'
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

export interface DecoderGraphOptions extends EndIds {
  /** Folder that the session will read weights from. */
  folder: string
  /** `embed_tokens*.onnx`. */
  embed: string
  /** `decoder_model_merged*.onnx`. */
  decoder: string
  /** Width of an attention head, for files that do not tell it. */
  headWidth?: number
}

/** What the outputs of a decoder are called, and the inputs that they are for the next call. */
const cacheNames = [
  ['present_conv', 'past_conv'],
  ['present_recurrent', 'past_recurrent'],
  ['present_ssm', 'past_ssm'],
  ['present', 'past_key_values'],
] as const

/** The cache input that an output is for the next call. */
export function pastOf(output: string): string {
  const [present, past] = cacheNames.find(([name]) => output.startsWith(name))!
  return past + output.slice(present.length)
}

/**
 * Joins `embed_tokens` and a decoder with caches into one graph that generates: the decoder is the body of a loop, its
 * first round is the prompt. Inputs, beside those of `rowInputs`: `input_ids int64 [B, S]`, padded at the right;
 * `places int64 [N, 2]` (row, column) and `features float32 [N, D]`, which replace the embeddings there;
 * `attention_mask int64 [B, P + S]`; `position_ids` as the decoder has them; `last int64 [B, 1]`, the column of each
 * row's last id; and the caches. Outputs: `ids int64 [B, T]`, rows that ended filled with the pad id, and the caches.
 * @throws ModelFolderError
 */
export function decoderGraph({
  folder,
  embed,
  decoder,
  headWidth,
  endIds,
  padId,
  bans,
}: DecoderGraphOptions): GenerateGraph {
  const parts = {
    embed: new ExportedPart(embed, 'embed', { folder }),
    decoder: new ExportedPart(decoder, 'decoder', { folder }),
  }
  const modelOptions = joinOpsets([parts.embed, parts.decoder])
  const caches = cachesOf(parts.decoder)
  checkInputs(
    parts,
    caches.map(({ input }) => input.name),
  )
  const isCut = cutBeforeOutputLayer(parts.decoder)
  const type = parts.decoder.input('inputs_embeds').type
  const width = widthOf(parts.decoder)
  const positions = positionsOf(parts.decoder)

  const g = new Graph()
  const ids = g.input('input_ids', 'int64', ['B', 'S'])
  const places = g.input('places', 'int64', ['N', 2])
  const features = g.input('features', 'float32', ['N', width])
  const mask = g.input('attention_mask', 'int64', ['B', 'M'])
  const positionShape = positions === 3 ? [3, 'B', 'S'] : ['B', 'S']
  const position = positions ? g.input('position_ids', 'int64', positionShape) : undefined
  const last = g.input('last', 'int64', ['B', 1])
  const rows = rowInputs(g)
  const pasts = caches.map(({ input }) => {
    const value = g.input(
      input.name,
      borderType(input.type),
      cacheShape(parts.decoder, input, 'P', headWidth),
    )
    return g.cast(value, input.type)
  })

  const text = embedded(g, parts.embed, 'prompt/', ids, type)
  const x = g.scatterSlices(text, places, g.cast(features, type))
  const lower = (size: number | string) =>
    size === 'B' ? size : typeof size === 'string' ? size.toLowerCase() : size
  const carried: Carried[] = [
    { name: 'x', value: x, shape: ['B', 's', width] },
    { name: 'mask', value: mask, shape: ['B', 'm'] },
    ...(position ? [{ name: 'position', value: position, shape: positionShape.map(lower) }] : []),
    { name: 'last', value: last, shape: ['B', 1] },
    ...carriedState({ ended: endedFromStart(g, rows.limit), left: rows.limit, history: rows.history }),
    ...caches.map(({ input }, i) => ({
      name: input.name,
      value: pasts[i]!,
      shape: cacheShape(parts.decoder, input, 'p', headWidth),
    })),
  ]
  const decoded = decodingLoop(g, rows.steps, carried, (body, values, index) => {
    const named = parts.decoder.inline(body, 'decoder/', {
      inputs_embeds: values.x!,
      attention_mask: values.mask!,
      ...(position && { position_ids: values.position! }),
      [lastInput]: values.last!,
      num_logits_to_keep: body.ints(0),
      ...Object.fromEntries(caches.map(({ input }) => [input.name, values[input.name]!])),
    })
    const all: Value = { name: named('logits'), type: parts.decoder.output('logits').type }
    const logits = onePosition(body, isCut ? all : body.gatherRows(all, values.last as Int))
    const { made, state } = nextIds(
      body,
      logits,
      stateOf(values),
      columnAt(body, rows.uniform, index),
      rows.settings,
      {
        endIds,
        padId,
        bans,
      },
    )
    const one = body.expand(body.ints([1]), body.shape(made))
    const next: Record<string, Value> = {
      x: embedded(body, parts.embed, 'next/', made, type),
      mask: body.concat([values.mask as Int, one], 1),
      last: body.sub(values.last as Int, values.last as Int),
      ...(position && {
        position: nextPosition(body, values.position as Int, values.last as Int, positions),
      }),
      ...Object.fromEntries(carriedState(state).map(({ name, value }) => [name, value])),
      ...Object.fromEntries(
        caches.map(({ input, output }) => [input.name, { name: named(output.name), type: output.type }]),
      ),
    }
    return { made, ended: state.ended, next }
  })

  g.output('ids', decoded.ids, ['B', 'T'])
  for (const { input, output } of caches) {
    const value = g.cast(decoded.last[input.name]!, borderType(output.type))
    g.output(output.name, value, cacheShape(parts.decoder, input, 'Q', headWidth))
  }
  return {
    model: g.toModel(modelOptions),
    metadata: {
      form: 'decoder',
      endIds,
      padId,
      width,
      vocabulary: vocabularyOf(parts.decoder),
      positions,
      caches: caches.map(({ input, output }) => ({ input: input.name, output: output.name })),
      contiguous: parts.decoder.operators().has('GroupQueryAttention'),
      equalLengths: caches.some(({ input }) => !input.name.startsWith('past_key_values')),
      batchInvariant: isBatchInvariant(parts.embed.model, parts.decoder.model),
    },
  }
}

/** Type of a cache outside of the graph: onnxruntime-node takes no float16 where JavaScript has a Float16Array. */
export const borderType = (type: DataType): DataType =>
  type === 'float16' || type === 'bfloat16' ? 'float32' : type

/** Rows that may make no id at all. */
export const endedFromStart = (g: Graph, limit: Int) => g.lessOrEqual(limit, g.ints(0))

/** One behind the position of each row's last id. */
function nextPosition(g: Graph, position: Int, last: Int, coordinates: 0 | 1 | 3): Int {
  if (coordinates !== 3) return g.add(g.gatherElements(position, last, 1), g.ints(1))
  const at = g.expand(g.unsqueeze(last, 0), g.concat([g.ints([3]), g.shape(last)], 0))
  return g.add(g.gatherElements(position, at, 2), g.ints(1))
}

function cachesOf(decoder: ExportedPart): { input: Port; output: Port }[] {
  const outputs = [...decoder.outputs.values()].filter(({ name }) => name.startsWith('present'))
  if (outputs.length === 0) decoder.fail('has no caches (present.*). A merged decoder is needed.')
  const caches = outputs.map((output) => ({ input: decoder.input(pastOf(output.name)), output }))
  const odd = caches.find(({ input, output }) => input.type !== output.type)
  if (odd) decoder.fail(`has a cache whose type changes: ${odd.input.name}. Export the model again.`)
  return caches
}

/** Sizes of a cache: batch first, `length` where keys grow. */
export function cacheShape(
  decoder: ExportedPart,
  { name, dims }: Port,
  length: string,
  headWidth?: number,
): (number | string)[] {
  return dims.map((size, axis) => {
    if (axis === 0) return 'B'
    if (typeof size === 'number') return size
    if (axis === 2) return length
    if (axis === 3 && headWidth !== undefined) return headWidth
    return decoder.fail(`does not tell the sizes of ${name}, and config.json no head_dim.`)
  })
}

function widthOf(decoder: ExportedPart): number {
  const { dims } = decoder.input('inputs_embeds')
  const width = dims.at(-1)
  return dims.length === 3 && typeof width === 'number'
    ? width
    : decoder.fail('does not tell the width of inputs_embeds. Export the model again.')
}

function positionsOf(decoder: ExportedPart): 0 | 1 | 3 {
  const port = decoder.inputs.get('position_ids')
  if (!port) return 0
  if (port.dims.length === 2) return 1
  if (port.dims.length === 3 && (port.dims[0] === 3 || typeof port.dims[0] === 'string')) return 3
  return decoder.fail(`takes position_ids of ${port.dims.length} axes, which is not known.`)
}

const ownInputs = ['inputs_embeds', 'attention_mask', 'position_ids', 'num_logits_to_keep']

function checkInputs(
  { embed, decoder }: { embed: ExportedPart; decoder: ExportedPart },
  caches: string[],
): void {
  embed.input('input_ids')
  embed.output('inputs_embeds')
  decoder.input('attention_mask')
  decoder.output('logits')
  const known = new Set([...ownInputs, ...caches])
  for (const name of decoder.inputs.keys())
    if (!known.has(name)) decoder.fail(`needs the input ${name}, which is not known.`)
  for (const name of embed.inputs.keys())
    if (name !== 'input_ids') embed.fail(`needs the input ${name}, which is not known.`)
  const also = [...embed.outputs.keys()].find((name) => name !== 'inputs_embeds')
  if (also) embed.fail(`has the output ${also}, which is not known.`)
}
