import { Tensor } from 'onnxruntime-node'
import { bannedIds } from '../generation/bans.ts'
import type { GenerationSettings } from '../generation.ts'
import { takeRows } from './caches.ts'
import type { GenerateRow, RowResult } from './rows.ts'
import {
  embed,
  emptyCaches,
  encodeRows,
  lastLogits,
  nextCaches,
  type OriginalSession,
  type Originals,
  only,
} from './step-by-step.ts'

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
  /** The ids of a row are the first of the decoder instead: nothing else reads them. */
  prompted?: boolean
  /** Id that a sequence ends with when it reaches its most ids. */
  forcedEndId?: number
}

/** The score of what cannot be chosen, as in transformers. */
const impossible = -1e9

/** State of a search for one caption. */
export interface BeamSearch extends BeamOptions {
  row: GenerateRow
  settings: GenerationSettings
  beams: Beams
  finished: Finished[]
  /** Ids made so far, forced ones included. */
  length: number
  /** Forced ones among them. */
  made: number
}

function startBeams(row: GenerateRow, options: BeamOptions): BeamSearch {
  const count = row.settings.beams ?? 1
  const made = options.prompted ? 0 : options.startIds.length - 1
  return {
    ...options,
    row,
    startIds: options.prompted ? row.ids : [...options.startIds, ...(row.beginning ?? [])],
    settings: row.settings,
    // All begin alike: only the first may go on, or all would be the same.
    beams: {
      ids: Array.from({ length: count }, () => []),
      scores: Array.from({ length: count }, (_, i) => (i === 0 ? 0 : impossible)),
    },
    finished: [],
    length: made,
    made,
  }
}

/**
 * One step of a beam search as transformers' `generate` does it. `logits` has those of each beam, before any guard.
 * @returns for each beam that goes on, the one it comes from; undefined when the search is over
 */
function stepBeams(search: BeamSearch, logits: Float32Array[]): number[] | undefined {
  const { beams, settings, endIds } = search
  const count = beams.ids.length
  const isLast = search.length + 1 >= settings.maxTokens
  const isGreedy = count === 1
  const logProbs = logits.map((each, beam) =>
    guard(search, isGreedy ? each : logSoftmax(each), beams.ids[beam]!, isLast),
  )
  const kept = isGreedy ? 1 : Math.max(2, 1 + endIds.length) * count
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
  if (settings.earlyStopping === true) return true
  const penalty = settings.lengthPenalty ?? 1
  const longest = settings.earlyStopping === 'never' && penalty > 0 ? settings.maxTokens : length
  return beams.scores[0]! / longest ** penalty <= finished.at(-1)!.score
}

/** Penalties apply to log probabilities where there are beams. */
function guard(
  { settings, startIds, endIds, forcedEndId, length }: BeamSearch,
  logProbs: Float32Array,
  ids: number[],
  isLast: boolean,
): Float32Array {
  const history = [...startIds, ...ids]
  const { repetitionPenalty, frequencyPenalty = 0, presencePenalty = 0 } = settings
  const counts = new Map([...new Set(history)].map((id) => [id, 0]))
  for (const id of ids) counts.set(id, counts.get(id)! + 1)
  for (const [id, times] of counts) {
    const before = logProbs[id]!
    const repeated = before < 0 ? before * repetitionPenalty : before / repetitionPenalty
    logProbs[id] = repeated - frequencyPenalty * times - presencePenalty * Math.min(times, 1)
  }
  for (const id of repeatedAfter(history, settings.noRepeatNgram)) logProbs[id] = Number.NEGATIVE_INFINITY
  for (const id of settings.bans ? bannedIds(settings.bans, history, ids.length) : [])
    logProbs[id] = Number.NEGATIVE_INFINITY
  const isTooSoon = length < (settings.minTokens ?? 0) || history.length < (settings.minLength ?? 0)
  if (isTooSoon) for (const id of endIds) logProbs[id] = Number.NEGATIVE_INFINITY
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

/** What a search runs: an encoder's part, and a decoder with caches. */
export interface BeamSessions {
  decoder: OriginalSession
  /** What the decoder reads of rows in every run, a row for each at the first axis. */
  encode(rows: readonly GenerateRow[]): Promise<Record<string, Tensor>>
  /** What it takes of ids `[rows][ids]`. */
  embed(ids: number[][]): Promise<Record<string, Tensor>>
}

/** The sessions of an exported encoder-decoder. */
export const beamSessions = (originals: Originals): BeamSessions => ({
  decoder: originals.decoder,
  encode: (rows) => encodeRows(originals, rows),
  embed: (ids) => embed(originals, ids),
})

/** Beams of one run of the decoder: each has caches of its own. */
const mostBeams = 16

/**
 * Makes captions by beam searches, one run of the decoder for each id of several rows. A row without beams is decoded
 * greedily.
 * @returns results in the order of the rows
 */
export async function beamSearch(
  sessions: BeamSessions,
  rows: readonly GenerateRow[],
  options: BeamOptions,
): Promise<RowResult[]> {
  const results: RowResult[] = []
  const searches = rows.map((row) => startBeams(row, options))
  for (const group of groupsOf(searches)) {
    await searchTogether(
      sessions,
      group.map((at) => searches[at]!),
    )
    for (const at of group) results[at] = resultOf(searches[at]!, options)
  }
  return results
}

/** Rows whose first ids are equally many, with no more beams than fit into one run. */
function groupsOf(searches: BeamSearch[]): number[][] {
  const groups: { at: number[]; length: number; beams: number }[] = []
  for (const [at, { startIds, beams }] of searches.entries()) {
    const [length, count] = [startIds.length, beams.ids.length]
    const group = groups.find((each) => each.length === length && each.beams + count <= mostBeams)
    if (group) {
      group.at.push(at)
      group.beams += count
    } else groups.push({ at: [at], length, beams: count })
  }
  return groups.map(({ at }) => at)
}

async function searchTogether(sessions: BeamSessions, searches: BeamSearch[]): Promise<void> {
  const { decoder } = sessions
  let running = searches.filter(({ length, settings }) => length < settings.maxTokens)
  if (running.length === 0) return
  const owners = running.flatMap(({ beams }, at) => beams.ids.map(() => at))
  let shared = taken(await sessions.encode(running.map(({ row }) => row)), owners)
  let caches = taken(
    emptyCaches(decoder),
    owners.map(() => 0),
  )
  let fed = owners.map((at) => running[at]!.startIds)
  for (let isFirst = true; ; isFirst = false) {
    const outputs = await decoder.run(
      {
        ...only(decoder, shared),
        ...(await sessions.embed(fed)),
        ...only(decoder, { use_cache_branch: () => new Tensor('bool', [!isFirst], [1]) }),
        ...caches,
      },
      decoder.outputs.filter((name) => isFirst || !isShared(name)),
    )
    const { from, going } = stepAll(running, outputs.logits!)
    if (going.length === 0) return
    // The beams of a row read the same: these are moved where a row has left alone.
    const isWhole = from.length === fed.length
    const next = Object.entries(nextCaches(caches, outputs, isFirst))
    caches = Object.fromEntries(
      next.map(([name, tensor]) => [name, isWhole && isShared(name) ? tensor : takeRows(tensor, from)]),
    )
    if (!isWhole) shared = taken(shared, from)
    running = going
    fed = running.flatMap(({ beams }) => beams.ids.map((ids) => [ids.at(-1)!]))
  }
}

/** Whether a row needs more than the loops of captioners and encoder-decoders do: beams. */
export const hasBeams = ({ beams = 1 }: GenerationSettings) => beams > 1

/** Whether a row needs more than greedy ids. */
export const isGuarded = (settings: GenerationSettings) =>
  hasBeams(settings) ||
  settings.repetitionPenalty !== 1 ||
  settings.noRepeatNgram > 0 ||
  (settings.minTokens ?? 0) > 0 ||
  (settings.minLength ?? 0) > 0 ||
  settings.bans !== undefined

/** Keys and values of the encoder. */
const isShared = (name: string) => name.includes('.encoder.')

/** Rows of several tensors. */
export const taken = (tensors: Record<string, Tensor>, rows: number[]) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, takeRows(tensor, rows)]))

/** One step of each search; those that go on, and the rows of the run that their beams come from. */
function stepAll(searches: BeamSearch[], logits: Tensor): { from: number[]; going: BeamSearch[] } {
  const from: number[] = []
  const going: BeamSearch[] = []
  let at = 0
  for (const search of searches) {
    const begin = at
    const own = search.beams.ids.map((_, beam) => lastLogits(logits, begin + beam))
    at += own.length
    const went = stepBeams(search, own)
    if (went === undefined) continue
    from.push(...went.map((beam) => begin + beam))
    going.push(search)
  }
  return { from, going }
}

function resultOf(
  { finished, beams, settings, made }: BeamSearch,
  { endIds, startIds, forcedEndId }: BeamOptions,
): RowResult {
  const forced = startIds.slice(startIds.length - made)
  const ids = finished[0]?.ids ?? beams.ids[0]!
  const isForced = forcedEndId !== undefined && made + ids.length === settings.maxTokens
  return { ids: [...forced, ...ids], ended: !isForced && endIds.includes(ids.at(-1)!) }
}
