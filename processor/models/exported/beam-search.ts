import { Tensor } from 'onnxruntime-node'
import type { GenerationSettings } from '../generation.ts'
import { takeRows } from './caches.ts'
import type { GenerateRow, RowResult } from './rows.ts'
import { embed, emptyCaches, encode, lastLogits, nextCaches, type Originals, only } from './step-by-step.ts'

/** Sequences on their way, best first. */
interface Beams {
  /** Ids behind the prompt. */
  ids: number[][]
  /** Sums of log probabilities. */
  scores: number[]
}

/** A finished sequence, its score divided by its length to the power of the length penalty. */
interface Finished {
  ids: number[]
  score: number
}

export interface BeamOptions {
  endIds: number[]
  /** First ids of the decoder: the start id, then those that are forced. */
  startIds: number[]
  /** Id that a sequence ends with when it reaches its most ids. */
  forcedEndId?: number
}

/** The score of what cannot be chosen, as in transformers. */
const impossible = -1e9

/** State of a search for one caption. */
export interface BeamSearch extends BeamOptions {
  settings: GenerationSettings
  beams: Beams
  finished: Finished[]
  /** Ids made so far, forced ones included. */
  length: number
}

export function startBeams(row: GenerateRow, options: BeamOptions): BeamSearch {
  const count = row.settings.beams ?? 1
  return {
    ...options,
    settings: row.settings,
    // All begin alike: only the first may go on, or all would be the same.
    beams: {
      ids: Array.from({ length: count }, () => []),
      scores: Array.from({ length: count }, (_, i) => (i === 0 ? 0 : impossible)),
    },
    finished: [],
    length: options.startIds.length - 1,
  }
}

/**
 * One step of a beam search as transformers' `generate` does it. `logits` has those of each beam, before any guard.
 * @returns for each beam that goes on, the one it comes from; undefined when the search is over
 */
export function stepBeams(search: BeamSearch, logits: Float32Array[]): number[] | undefined {
  const { beams, settings, endIds } = search
  const count = beams.ids.length
  const isLast = search.length + 1 >= settings.maxTokens
  const logProbs = logits.map((each, beam) => guard(search, logSoftmax(each), beams.ids[beam]!, isLast))
  const kept = Math.max(2, 1 + endIds.length) * count
  const candidates = best(logProbs, beams.scores, kept).map(({ beam, id, score }) => ({
    beam,
    ids: [...beams.ids[beam]!, id],
    score,
    stops: isLast || endIds.includes(id),
  }))
  search.length++

  const penalty = search.length ** (settings.lengthPenalty ?? 1)
  const isFull = search.finished.length === count && settings.earlyStopping === true
  // One that stops below the best does not count.
  const stopped = isFull ? [] : candidates.slice(0, count).filter(({ stops }) => stops)
  search.finished = [
    ...search.finished,
    ...stopped.map(({ ids, score }) => ({ ids, score: score / penalty })),
  ]
    .sort((a, b) => b.score - a.score)
    .slice(0, count)

  const running = candidates.filter(({ stops }) => !stops).slice(0, count)
  if (running.length === 0) return undefined
  search.beams = { ids: running.map(({ ids }) => ids), scores: running.map(({ score }) => score) }
  return isOver(search, count) ? undefined : running.map(({ beam }) => beam)
}

/** No better caption can come, or enough have ended. */
function isOver({ beams, finished, settings, length }: BeamSearch, count: number): boolean {
  if (finished.length < count) return false
  if (settings.earlyStopping) return true
  return beams.scores[0]! / length ** (settings.lengthPenalty ?? 1) <= finished.at(-1)!.score
}

/** Penalties apply to log probabilities here. */
function guard(
  { settings, startIds, endIds, forcedEndId, length }: BeamSearch,
  logProbs: Float32Array,
  ids: number[],
  isLast: boolean,
): Float32Array {
  const history = [...startIds, ...ids]
  for (const id of new Set(history))
    logProbs[id] =
      logProbs[id]! < 0
        ? logProbs[id]! * settings.repetitionPenalty
        : logProbs[id]! / settings.repetitionPenalty
  for (const id of repeatedAfter(history, settings.noRepeatNgram)) logProbs[id] = Number.NEGATIVE_INFINITY
  if (length < (settings.minTokens ?? 0)) for (const id of endIds) logProbs[id] = Number.NEGATIVE_INFINITY
  if (!isLast || forcedEndId === undefined) return logProbs
  return new Float32Array(logProbs.length)
    .fill(Number.NEGATIVE_INFINITY)
    .fill(0, forcedEndId, forcedEndId + 1)
}

/** Ids that followed the last n - 1 ids before. */
function repeatedAfter(history: number[], n: number): number[] {
  if (n === 0 || history.length < n) return []
  const last = history.slice(history.length - n + 1)
  return history.filter((_, at) => at >= n - 1 && last.every((id, i) => history[at - n + 1 + i] === id))
}

function logSoftmax(logits: Float32Array): Float32Array {
  const largest = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY)
  const sum = Math.log(logits.reduce((all, logit) => all + Math.exp(logit - largest), 0))
  return logits.map((logit) => logit - largest - sum)
}

/** The continuations of all beams with the highest sums, in descending order. */
function best(logProbs: Float32Array[], scores: number[], count: number) {
  const found: { beam: number; id: number; score: number }[] = []
  for (const [beam, values] of logProbs.entries())
    for (let id = 0; id < values.length; id++) {
      const score = scores[beam]! + values[id]!
      if (found.length === count && score <= found.at(-1)!.score) continue
      const at = found.findIndex((other) => other.score < score)
      found.splice(at === -1 ? found.length : at, 0, { beam, id, score })
      if (found.length > count) found.pop()
    }
  return found
}

/** Makes a caption with an encoder-decoder's files by a beam search, one run of the decoder for each id. */
export async function beamSearch(
  originals: Originals,
  row: GenerateRow,
  options: BeamOptions,
): Promise<RowResult> {
  const { states } = await encode(originals, row)
  const first = originals.encoder ? [...options.startIds, ...(row.beginning ?? [])] : row.ids
  const search = startBeams(row, originals.encoder ? options : { ...options, startIds: first })
  if (!originals.encoder) search.length = 0
  const all = search.beams.ids.map(() => 0)
  const { decoder } = originals
  const shared = Object.fromEntries(
    Object.entries(only(decoder, states)).map(([name, tensor]) => [name, takeRows(tensor, all)]),
  )
  let caches = Object.fromEntries(
    Object.entries(emptyCaches(decoder)).map(([name, tensor]) => [name, takeRows(tensor, all)]),
  )
  let fed = all.map(() => first)
  for (let isFirst = true; ; isFirst = false) {
    const outputs = await decoder.run({
      ...shared,
      ...(await embed(originals, fed)),
      ...only(decoder, { use_cache_branch: () => new Tensor('bool', [!isFirst], [1]) }),
      ...caches,
    })
    const from = stepBeams(
      search,
      all.map((_, beam) => lastLogits(outputs.logits!, beam)),
    )
    if (from === undefined) break
    caches = Object.fromEntries(
      Object.entries(nextCaches(caches, outputs, isFirst)).map(([name, tensor]) => [
        name,
        takeRows(tensor, from),
      ]),
    )
    fed = search.beams.ids.map((ids) => [ids.at(-1)!])
  }
  const forced = originals.encoder ? options.startIds.slice(1) : []
  const ids = search.finished[0]?.ids ?? search.beams.ids[0]!
  return { ids: [...forced, ...ids], ended: options.endIds.includes(ids.at(-1)!) }
}
