import type { Graph } from '../../onnx/graph.ts'
import type { Bool, Int, Shape, Value } from '../../onnx/operators.ts'
import type { DataType } from '../../onnx/proto.ts'
import type { Bans } from '../generation/bans.ts'
import { type Choosing, drawn, guarded, type History, isPlain, remembered } from './choose.ts'
import type { ExportedPart } from './part.ts'

/** A cache of the decoder as the session has it. */
export interface CacheTensor {
  input: string
  output: string
}

/** What the caller of a generate session needs to know beside its inputs and outputs. */
export interface GenerateMetadata {
  /** `decoder`: prompt and images are one sequence. `encoder`: they are encoded once, and ids are made from a start id. */
  form: 'decoder' | 'encoder' | 'features'
  endIds: number[]
  padId: number
  /** Numbers in a row of features. */
  width: number
  /** Ids are below; undefined when the file does not tell. */
  vocabulary?: number
  /** Coordinates of a position; 0: the decoder counts by itself. */
  positions: 0 | 1 | 3
  /** Caches that come back, so that a call can go on where another ended; empty: each call is a whole one. */
  caches: CacheTensor[]
  /** Keys of a row follow each other from slot 0 on, whatever the mask says (GroupQueryAttention). */
  contiguous: boolean
  /** States of convolutions or recurrences are at the end of a row: rows of one run must have equal lengths. */
  equalLengths: boolean
  /** False: activations are quantised with one scale for a whole batch, so that a row depends on its neighbours. */
  batchInvariant: boolean
}

export interface GenerateGraph {
  /** An ONNX model whose weights are external data in the folder's files. */
  model: Uint8Array
  metadata: GenerateMetadata
}

/** Number of logits, where a decoder tells it. */
export function vocabularyOf(decoder: ExportedPart): number | undefined {
  const size = decoder.output('logits').dims.at(-1)
  return typeof size === 'number' ? size : undefined
}

/** Ids that a model ends with, and fills rows with that ended; ids that never come. */
export interface EndIds {
  endIds: number[]
  padId: number
  bans?: Bans | undefined
}

/** Inputs of every generate session, for a batch of B rows. */
export function rowInputs(g: Graph) {
  const column = <T extends DataType>(name: string, type: T) => g.input(name, type, ['B', 1])
  const settings: Choosing = {
    repetition: column('repetition', 'float32'),
    frequency: column('frequency', 'float32'),
    presence: column('presence', 'float32'),
    ngram: column('ngram', 'int64'),
    temperature: column('temperature', 'float32'),
    topP: column('top_p', 'float32'),
    topK: column('top_k', 'int64'),
    candidates: g.input('candidates', 'int64', [1]),
  }
  return {
    steps: g.input('steps', 'int64', []),
    limit: column('limit', 'int64'),
    uniform: g.input('uniform', 'float32', ['B', 'U']),
    history: {
      ids: g.input('history', 'int64', ['B', 'H']),
      times: g.input('times', 'float32', ['B', 'H']),
      least: column('least', 'int64'),
    },
    settings,
  }
}

/** Where the rows of a batch are. */
export interface RowState {
  /** `bool [B, 1]`. */
  ended: Bool
  /** `int64 [B, 1]`: ids that may still be made. */
  left: Int
  history: History
}

/** The next id of each row, and where the rows are then. Ended rows make the pad id. */
export function nextIds(
  g: Graph,
  logits: Value<'float32'>,
  state: RowState,
  uniform: Value<'float32'>,
  settings: Choosing,
  { endIds, padId, bans }: EndIds,
): { made: Int; state: RowState } {
  const ofGuarded = (g: Graph) =>
    drawn(g, guarded(g, logits, state.history, settings, { endIds, bans }), uniform, settings)
  const [chosen] = bans
    ? [ofGuarded(g)]
    : g.branch(
        isPlain(g, state.history, settings),
        ['int64'],
        (body) => body.output(body.uniqueName('chosen'), body.argmax(logits, -1, true), ['B', 1]),
        (body) => body.output(body.uniqueName('chosen'), ofGuarded(body), ['B', 1]),
      )
  const made = g.where(state.ended, g.ints(padId), chosen)
  const left = g.sub(state.left, g.ints(1))
  const isEnd = endIds.map((id) => g.equal(made, g.ints(id)))
  const ended = [...isEnd, g.lessOrEqual(left, g.ints(0))].reduce((any, one) => g.or(any, one), state.ended)
  return { made, state: { ended, left, history: remembered(g, state.history, made) } }
}

/** A value that goes from one round of a loop to the next. */
export interface Carried {
  name: string
  value: Value
  /** Sizes that change from round to round are strings other than `B`. */
  shape: Shape
}

/** Carries a state; `stateOf` reads it back. */
export const carriedState = ({ ended, left, history }: RowState): Carried[] => [
  { name: 'ended', value: ended, shape: ['B', 1] },
  { name: 'left', value: left, shape: ['B', 1] },
  { name: 'least', value: history.least, shape: ['B', 1] },
  { name: 'history', value: history.ids, shape: ['B', 'h'] },
  { name: 'times', value: history.times, shape: ['B', 'h'] },
]

export const stateOf = (values: Record<string, Value>): RowState => ({
  ended: values.ended as Bool,
  left: values.left as Int,
  history: {
    least: values.least as Int,
    ids: values.history as Int,
    times: values.times as Value<'float32'>,
  },
})

/**
 * Makes ids until all rows have ended, at most `trips` times. `round` gets the carried values by name, and the number
 * of the round; it returns the values of the next one. What is the same in all rounds, such as keys and values of an encoder
 * that a decoder would make again for each id, is computed once.
 * @returns the ids `[B, T]`, and the last carried values by name
 */
export function decodingLoop(
  g: Graph,
  trips: Int,
  carried: Carried[],
  round: (
    body: Graph,
    values: Record<string, Value>,
    index: Int,
  ) => { made: Int; ended: Bool; next: Record<string, Value> },
): { ids: Int; last: Record<string, Value> } {
  const types = [...carried.map(({ value }) => value.type), 'int64' as const]
  const results = g.loop(
    trips,
    carried.map(({ value }) => value),
    types,
    (body) => {
      const index = body.input(body.uniqueName('round'), 'int64', [])
      body.input(body.uniqueName('going'), 'bool', [])
      const values = carried.map(
        ({ name, value, shape }) => [name, body.input(body.uniqueName(name), value.type, shape)] as const,
      )
      const { made, ended, next } = round(body, Object.fromEntries(values), index)
      body.output(body.uniqueName('going'), body.not(body.all(ended)), [])
      for (const { name, shape } of carried)
        body.output(body.uniqueName(name), next[name]!, shape.map(changing))
      body.output(body.uniqueName('made'), made, ['B', 1])
      g.append(body.takeInvariant())
    },
  )
  const last = Object.fromEntries(carried.map(({ name }, i) => [name, results[i]!]))
  const scanned = results.at(-1) as Int // [T, B, 1]
  return { ids: g.transpose(g.squeeze(scanned, 2), [1, 0]), last }
}

/** A name of its own for a size that a round changes: it would have to stay the same otherwise. */
const changing = (size: number | string) => (typeof size === 'string' && size !== 'B' ? `${size}_next` : size)

/** The column of `uniform [B, U]` for a round. */
export const columnAt = (g: Graph, uniform: Value<'float32'>, index: Int): Value<'float32'> =>
  g.gather(uniform, g.reshape(index, [1]), 1)

/** Logits `[B, S, V]` of an exported decoder as `float32 [B, V]` of their one position. */
export const onePosition = (g: Graph, logits: Value): Value<'float32'> =>
  g.cast(g.squeeze(logits, 1), 'float32')

/** Embeddings of ids `[B, S]` as the type that a decoder takes. */
export function embedded(g: Graph, embed: ExportedPart, prefix: string, ids: Int, type: DataType): Value {
  const name = embed.inline(g, prefix, { input_ids: ids })('inputs_embeds')
  return g.cast({ name, type: embed.output('inputs_embeds').type }, type)
}
