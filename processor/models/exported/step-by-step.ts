import { InferenceSession, Tensor } from 'onnxruntime-node'
import { Graph } from '../../onnx/graph.ts'
import { openSession, runsFewTimes, type SessionOptions } from '../../onnx/session.ts'
import { type Bans, bannedIds } from '../generation/bans.ts'
import { borderType, pastOf } from './decoder-graph.ts'
import { ExportedPart, joinOpsets, type Port } from './part.ts'
import { float32, type GenerateRow, int64 } from './rows.ts'

/** The files of an exported model as sessions of their own. */
export interface Originals {
  embed?: OriginalSession
  encoder?: OriginalSession
  decoder: OriginalSession
}

export interface OriginalSession {
  inputs: ReadonlyMap<string, Pick<Port, 'name' | 'dims'>>
  outputs: readonly string[]
  /** `fetches`: outputs that are wanted; default: all. */
  run(feeds: Record<string, Tensor>, fetches?: readonly string[]): Promise<Record<string, Tensor>>
  close(): Promise<void>
}

/** A session with what it tells of its inputs. */
export function originalOf(session: InferenceSession): OriginalSession {
  const inputs = session.inputMetadata.map(
    (input) => [input.name, { name: input.name, dims: input.isTensor ? [...input.shape] : [] }] as const,
  )
  return {
    inputs: new Map(inputs),
    outputs: session.outputNames,
    run: (feeds, fetches) =>
      session.run(feeds, fetches ?? session.outputNames) as Promise<Record<string, Tensor>>,
    close: () => session.release(),
  }
}

/**
 * Opens an exported file as it is; one that takes float16, which onnxruntime-node cannot give, with casts around it.
 * @throws ModelFolderError when the file cannot be used
 */
export async function openOriginal(
  file: string,
  folder: string,
  options: SessionOptions = {},
): Promise<OriginalSession> {
  const part = new ExportedPart(file, 'original', { folder })
  const ports = [...part.inputs.values(), ...part.outputs.values()]
  const isPlain = ports.every(({ type }) => borderType(type) === type)
  const session = isPlain
    ? await InferenceSession.create(file, { logSeverityLevel: 3, ...options })
    : await openSession(castAround(part), folder, options)
  return originalOf(session)
}

/** The same for a few runs, at the least memory and time: its weights stay in the file. @throws ModelFolderError */
export const openToTest = async (
  file: string,
  folder: string,
  options: SessionOptions = {},
): Promise<OriginalSession> =>
  originalOf(await openSession(originalGraph(file, folder), folder, runsFewTimes(options)))

/**
 * An exported file as a graph whose weights stay in it, with float32 at its borders.
 * @throws ModelFolderError when the file cannot be used
 */
export const originalGraph = (file: string, folder: string): Uint8Array =>
  castAround(new ExportedPart(file, 'original', { folder }))

function castAround(part: ExportedPart): Uint8Array {
  const options = joinOpsets([part])
  const g = new Graph()
  const bind = [...part.inputs.values()].map(({ name, type, dims }) => {
    const value = g.input(
      name,
      borderType(type),
      dims.map((size) => size),
    )
    return [name, g.cast(value, type)] as const
  })
  const named = part.inline(g, 'original/', Object.fromEntries(bind))
  for (const { name, type, dims } of part.outputs.values())
    g.output(name, g.cast({ name: named(name), type }, borderType(type)), dims)
  return g.toModel(options)
}

/** Greedy ids of one row, and the logits that each was chosen by. */
export interface Steps {
  ids: number[]
  logits: Float32Array[]
}

export interface StepOptions {
  endIds: number[]
  /** Most ids. */
  steps: number
  /** First ids of an encoder-decoder. */
  startIds?: number[]
  /** Width of an attention head, for files that do not tell it. */
  headWidth?: number
  /** Ids that never come. */
  bans?: Bans | undefined
}

/**
 * Makes ids greedily as a program outside of the graph does: one run of the decoder for each, caches fed back. No guards,
 * one row. It is what a generate graph must equal.
 */
export async function stepByStep(
  originals: Originals,
  row: GenerateRow,
  options: StepOptions,
): Promise<Steps> {
  const encoded = await encode(originals, row)
  const { decoder } = originals
  const first =
    encoded.prompt ?? (row.ids.length > 0 && !originals.encoder ? row.ids : (options.startIds ?? []))
  let caches = emptyCaches(decoder, options.headWidth)
  let fed = first
  let length = 0
  const made: Steps = { ids: [], logits: [] }
  while (made.ids.length < options.steps) {
    const isFirst = length === 0
    const x = isFirst && encoded.x ? encoded.x : await embed(originals, [fed])
    length += fed.length
    const outputs = await decoder.run({
      ...only(decoder, {
        ...x,
        ...encoded.states,
        attention_mask: () => int64(new Array<number>(length).fill(1), [1, length]),
        position_ids: () => positionsOf(decoder, row, length, fed.length),
        num_logits_to_keep: () => int64([0], []),
        use_cache_branch: () => new Tensor('bool', [!isFirst], [1]),
      }),
      ...caches,
    })
    const logits = lastLogits(outputs.logits!)
    for (const id of options.bans ? bannedIds(options.bans, [...first, ...made.ids], made.ids.length) : [])
      logits[id] = Number.NEGATIVE_INFINITY
    const id = logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY))
    made.logits.push(logits)
    made.ids.push(id)
    if (options.endIds.includes(id)) break
    caches = nextCaches(caches, outputs, isFirst)
    fed = [id]
  }
  return made
}

export type Feed = Tensor | (() => Tensor)

/** The feeds that a session has inputs for. */
export const only = ({ inputs }: OriginalSession, feeds: Record<string, Feed>): Record<string, Tensor> =>
  Object.fromEntries(
    Object.entries(feeds)
      .filter(([name]) => inputs.has(name))
      .map(([name, feed]) => [name, typeof feed === 'function' ? feed() : feed]),
  )

export interface Encoded {
  /** Ids that the decoder is given first. */
  prompt?: number[]
  /** Their embeddings with the picture in them. */
  x?: Record<string, Feed>
  states: Record<string, Feed>
}

export async function encode(originals: Originals, row: GenerateRow): Promise<Encoded> {
  if (!originals.embed) {
    const count = row.features.length / widthOf(originals.decoder.inputs.get('encoder_hidden_states')!)
    return { states: statesOf(new Tensor('float32', row.features, [1, count, row.features.length / count])) }
  }
  const x = (await embed(originals, [row.ids])).inputs_embeds as Tensor
  const width = x.dims[2]!
  const data = (x.data as Float32Array).slice()
  for (const [at, place] of row.places.entries())
    data.set(row.features.subarray(at * width, (at + 1) * width), place * width)
  const mixed = new Tensor('float32', data, x.dims)
  if (!originals.encoder) return { prompt: row.ids, x: { inputs_embeds: mixed }, states: {} }
  const mask = int64(
    row.ids.map(() => 1),
    [1, row.ids.length],
  )
  const outputs = await originals.encoder.run({ inputs_embeds: mixed, attention_mask: mask })
  return { states: statesOf(outputs.last_hidden_state!) }
}

/** The encoder's states of several rows, as long as the longest, `[rows, n, D]`, and which of them are a row's own. */
export async function encodeRows(
  originals: Originals,
  rows: readonly GenerateRow[],
): Promise<Record<string, Tensor>> {
  const all: Tensor[] = []
  for (const row of rows) all.push((await encode(originals, row)).states.encoder_hidden_states as Tensor)
  const [most, width] = [Math.max(...all.map(({ dims }) => dims[1]!)), all[0]!.dims[2]!]
  const states = new Float32Array(rows.length * most * width)
  for (const [at, { data }] of all.entries()) states.set(data as Float32Array, at * most * width)
  const mask = all.flatMap(({ dims }) => Array.from({ length: most }, (_, place) => Number(place < dims[1]!)))
  return {
    encoder_hidden_states: float32(states, [rows.length, most, width]),
    encoder_attention_mask: int64(mask, [rows.length, most]),
  }
}

const statesOf = (states: Tensor): Record<string, Feed> => ({
  encoder_hidden_states: states,
  encoder_attention_mask: () => int64(new Array<number>(states.dims[1]!).fill(1), [1, states.dims[1]!]),
})

/** What the decoder takes of ids `[rows][ids]`. */
export async function embed(originals: Originals, ids: number[][]): Promise<Record<string, Tensor>> {
  const inputIds = int64(ids.flat(), [ids.length, ids[0]!.length])
  if (!originals.decoder.inputs.has('inputs_embeds')) return { input_ids: inputIds }
  return { inputs_embeds: (await originals.embed!.run({ input_ids: inputIds })).inputs_embeds! }
}

const widthOf = ({ dims }: Pick<Port, 'dims'>) => Number(dims.at(-1))

function positionsOf({ inputs }: OriginalSession, row: GenerateRow, length: number, count: number): Tensor {
  const axes = inputs.get('position_ids')!.dims.length === 3 ? 3 : 1
  const lines = Array.from({ length: axes }, (_, axis) => {
    const prompt = row.positions?.[axis] ?? row.ids.map((_, at) => at)
    if (length <= prompt.length) return prompt
    const end = Math.max(...(row.positions ?? [prompt]).map((line) => line.at(-1)!))
    return [end + length - prompt.length]
  })
  return int64(lines.flat(), axes === 3 ? [3, 1, count] : [1, count])
}

/** Logits `[B, S, V]` of a row's last position. */
export function lastLogits({ dims, data }: Tensor, row = 0): Float32Array {
  const [, length, size] = dims as [number, number, number]
  const end = (row + 1) * length * size
  return Float32Array.from((data as Float32Array).subarray(end - size, end))
}

export function emptyCaches({ inputs }: OriginalSession, headWidth = 0): Record<string, Tensor> {
  const caches = [...inputs.values()].filter(({ name }) => name.startsWith('past'))
  return Object.fromEntries(
    caches.map(({ name, dims }) => {
      const unknown = [1, 0, 0, headWidth]
      const sizes = dims.map((size, axis) => (typeof size === 'number' && axis > 0 ? size : unknown[axis]!))
      return [name, float32(new Float32Array(sizes.reduce((a, b) => a * b, 1)), sizes)]
    }),
  )
}

/** What comes of the encoder comes in the first run alone. */
export function nextCaches(
  before: Record<string, Tensor>,
  outputs: Record<string, Tensor>,
  isFirst: boolean,
): Record<string, Tensor> {
  const fresh = Object.entries(outputs)
    .filter(([name]) => name.startsWith('present') && (isFirst || !name.includes('.encoder.')))
    .map(([name, tensor]) => [pastOf(name), tensor] as const)
  return { ...before, ...Object.fromEntries(fresh) }
}
