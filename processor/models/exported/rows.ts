import { Tensor } from 'onnxruntime-node'
import type { GenerationSettings } from '../generation.ts'
import { seededUniforms } from './random.ts'

/** What one caption is made from. */
export interface GenerateRow {
  /**
   * Ids of the prompt, image places included. An encoder-decoder encodes them; of a captioner without text they are the
   * first ids of the caption, the start id included.
   */
  ids: number[]
  /** First ids of an encoder-decoder's caption, behind the start ids. */
  beginning?: number[]
  /** Indexes of ids that image features replace, in order. */
  places: number[]
  /** `[places.length, D]`; of a captioner without text all features of the picture, `[n, D]`. */
  features: Float32Array
  /** Three coordinates of each id's position, `[3][ids.length]`, for models that have them. Default: 0, 1, ... */
  positions?: number[][]
  settings: GenerationSettings
}

/** What was made of a row. */
export interface RowResult {
  /** Ids behind the prompt, the end id included. */
  ids: number[]
  /** False: it reached its most ids, or was left. */
  ended: boolean
}

/** A row on its way. */
export interface RunningRow {
  row: GenerateRow
  made: number[]
  /** How often each id was made. */
  counts: Map<number, number>
  /** Position of the last id that was made, each coordinate. */
  position: number
  uniform(): number
}

export function startRow(row: GenerateRow, chooseSeed: () => number): RunningRow {
  const last = row.positions ? Math.max(...row.positions.map((line) => line.at(-1) ?? 0)) : row.ids.length - 1
  return {
    row,
    made: [],
    counts: new Map(),
    position: last,
    uniform: seededUniforms(row.settings.seed ?? chooseSeed()),
  }
}

/** Adds ids to a row. */
export function advanceRow(running: RunningRow, ids: number[]): void {
  for (const id of ids) running.counts.set(id, (running.counts.get(id) ?? 0) + 1)
  running.made.push(...ids)
  running.position += ids.length
}

/** Ids that are to be made before an end id may come, behind so many that were given. */
const leastOf = ({ row: { settings }, made }: RunningRow, given: number): number =>
  Math.max(settings.minTokens ?? 0, (settings.minLength ?? 0) - given) - made.length

export const idsLeft = ({ row, made }: RunningRow): number => row.settings.maxTokens - made.length

/** The candidates of transformers where nothing is said. */
const defaultTopK = 50
/** Every id. */
const allIds = 2 ** 31 - 1

/** Below it logits divided by the temperature are no float32 any more. */
const leastTemperature = 1e-5
const isGreedy = ({ temperature }: GenerationSettings) => temperature < leastTemperature
const topKOf = (settings: GenerationSettings): number => {
  if (isGreedy(settings)) return 1
  const { topK = defaultTopK } = settings
  return topK === 0 ? allIds : topK
}

export const int64 = (values: ArrayLike<number>, dims: number[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(values as number[], BigInt), dims)
export const float32 = (values: ArrayLike<number>, dims: number[]): Tensor =>
  new Tensor('float32', Float32Array.from(values), dims)

/**
 * Inputs of a generate session that say how its rows go on: settings, what was there before, random numbers.
 * `before` are the ids of a row that the guards know beside those made; `steps` the most ids of this run.
 */
export function rowFeeds(
  rows: RunningRow[],
  before: (row: RunningRow) => number[],
  steps: number,
): Record<string, Tensor> {
  const column = (make: typeof int64, of: (row: RunningRow) => number) => make(rows.map(of), [rows.length, 1])
  const setting = (make: typeof int64, of: (settings: GenerationSettings) => number) =>
    column(make, ({ row }) => of(row.settings))
  const histories = rows.map((running) => [...before(running), ...running.made])
  const length = Math.max(1, ...histories.map((ids) => ids.length))
  const padded = histories.map((ids) => [...new Array<number>(length - ids.length).fill(-1), ...ids])
  const times = padded.map((ids, i) => ids.map((id) => rows[i]!.counts.get(id) ?? 0))
  const uniforms = rows.map(({ row, uniform }) =>
    Array.from({ length: steps }, () => (isGreedy(row.settings) ? 0 : uniform())),
  )
  return {
    steps: int64([steps], []),
    limit: column(int64, idsLeft),
    least: column(int64, (running) => leastOf(running, before(running).length)),
    history: int64(padded.flat(), [rows.length, length]),
    times: float32(times.flat(), [rows.length, length]),
    uniform: float32(uniforms.flat(), [rows.length, steps]),
    repetition: setting(float32, ({ repetitionPenalty }) => repetitionPenalty),
    frequency: setting(float32, ({ frequencyPenalty = 0 }) => frequencyPenalty),
    presence: setting(float32, ({ presencePenalty = 0 }) => presencePenalty),
    ngram: setting(int64, ({ noRepeatNgram }) => noRepeatNgram),
    temperature: setting(float32, (settings) => (isGreedy(settings) ? 1 : settings.temperature)),
    top_p: setting(float32, (settings) => (isGreedy(settings) ? 1 : settings.topP)),
    top_k: setting(int64, topKOf),
    candidates: int64([Math.max(...rows.map(({ row }) => topKOf(row.settings)))], [1]),
  }
}

/** Ids of prompts as a batch, padded at the right. */
export interface PaddedPrompts {
  /** `int64 [B, S]`. */
  inputIds: Tensor
  /** `int64 [B, S]`: 1 where a row has an id. */
  mask: Tensor
  /** `int64 [N, 2]`: row and column of each feature. */
  places: Tensor
  /** `float32 [N, D]`. */
  features: Tensor
  length: number
}

export function padPrompts(
  rows: GenerateRow[],
  { padId, width }: { padId: number; width: number },
): PaddedPrompts {
  const length = Math.max(...rows.map(({ ids }) => ids.length))
  const pad = (ids: number[], filler: number) => [
    ...ids,
    ...new Array<number>(length - ids.length).fill(filler),
  ]
  const places = rows.flatMap((row, at) => row.places.flatMap((place) => [at, place]))
  return {
    inputIds: int64(
      rows.flatMap(({ ids }) => pad(ids, padId)),
      [rows.length, length],
    ),
    mask: int64(
      rows.flatMap(({ ids }) =>
        pad(
          ids.map(() => 1),
          0,
        ),
      ),
      [rows.length, length],
    ),
    places: int64(places, [places.length / 2, 2]),
    features: featuresOf(rows, width),
    length,
  }
}

/** The features of all rows, one behind the other: `float32 [N, D]`. */
export function featuresOf(rows: GenerateRow[], width: number): Tensor {
  const features = new Float32Array(rows.reduce((sum, row) => sum + row.features.length, 0))
  let at = 0
  for (const row of rows) {
    features.set(row.features, at)
    at += row.features.length
  }
  return new Tensor('float32', features, [features.length / width, width])
}
