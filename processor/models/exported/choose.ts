import type { Graph } from '../../onnx/graph.ts'
import type { Bool, Int, Value } from '../../onnx/operators.ts'
import type { Bans } from '../generation/bans.ts'

type Float32 = Value<'float32'>

/** Settings of each row, all `[B, 1]` where nothing else is said. */
export interface Choosing {
  /** Divides logits above 0 and multiplies others of ids that were there before; 1: off. */
  repetition: Float32
  /** Subtracted once for each time that an id was made; 0: off. */
  frequency: Float32
  /** Subtracted when an id was made at all; 0: off. */
  presence: Float32
  /** Length of runs of ids that may not come twice; 0: off. */
  ngram: Int
  /** Divides logits; above 0. */
  temperature: Float32
  /** Least probability of the ids that are drawn from, 0 to 1. */
  topP: Float32
  /** Ids that are drawn from. */
  topK: Int
  /** The most of `topK`, `[1]`. */
  candidates: Int
}

/** What rows have made so far. */
export interface History {
  /** `[B, H]`, prompt first; -1 where a row has none, at the left. */
  ids: Int
  /** `[B, H]`: how often each of them was made, the prompt left out. */
  times: Float32
  /** `[B, 1]`: ids to make before an end id may come. */
  least: Int
}

/**
 * Scalar; true when every row takes its likeliest id, with nothing guarded: one pass over the logits tells it. What does not
 * change from id to id comes first, so that it is computed once.
 */
export function isPlain(g: Graph, { least }: History, settings: Choosing): Bool {
  const { repetition, frequency, presence, ngram, candidates } = settings
  const off = [
    g.equal(repetition, g.floats(1)),
    g.equal(frequency, g.floats(0)),
    g.equal(presence, g.floats(0)),
    g.lessOrEqual(ngram, g.ints(0)),
    g.lessOrEqual(candidates, g.ints(1)),
  ]
  const allOff = g.all(off.reduce((all, each) => g.and(all, each)))
  return g.and(allOff, g.all(g.lessOrEqual(least, g.ints(0))))
}

/**
 * Logits `[B, V]` after the penalties and without what may not come. A row does not depend on its neighbours.
 * One more column takes the writes that must have no effect, so that all writes to one place have the same value.
 */
export function guarded(
  g: Graph,
  logits: Float32,
  history: History,
  settings: Choosing,
  { endIds, bans }: { endIds: number[]; bans?: Bans | undefined },
): Float32 {
  const size = g.shape(logits, 1, 2)
  const at = g.where(g.less(history.ids, g.ints(0)), size, history.ids)
  const padded = g.appendConstant(logits, 2, g.floats(0))
  const penalised = g.scatterElements(padded, at, penalties(g, padded, at, history, settings), 1)
  const repeats = g.where(endsRepeat(g, history.ids, settings.ngram), at, size)
  const tooSoon = g.where(g.less(g.ints(0), history.least), g.ints(endIds), size)
  const banned = g.concat([repeats, tooSoon, ...(bans ? bannedBy(g, bans, history, size) : [])], 1)
  const never = g.expand(g.floats(-Infinity), g.shape(banned))
  return g.slice(g.scatterElements(penalised, banned, never, 1), 1, 0, -1)
}

/** Ids that may not come, `[B, n]` each; `nowhere` for those that may. */
function bannedBy(g: Graph, { always, first, words }: Bans, { ids, times }: History, nowhere: Int): Int[] {
  const rows = g.shape(ids, 0, 1)
  const banned: Int[] = []
  if (always.length > 0) banned.push(g.expand(g.ints(always), g.concat([rows, g.ints([1])], 0)))
  if (first.length > 0) {
    const isFirst = g.less(g.max(times, 1, true), g.floats(1))
    banned.push(g.where(isFirst, g.ints(first), nowhere))
  }
  for (const [length, alike] of Map.groupBy(words, (word) => word.length - 1)) {
    const none = g.expand(g.ints(-1), g.concat([rows, g.ints([length])], 0))
    const last = g.unsqueeze(g.slice(g.concat([none, ids], 1), 1, -length), 1) // [B, 1, length]
    const begun = g.reshape(g.ints(alike.flatMap((word) => word.slice(0, -1))), [1, -1, length])
    const isBegun = g.allAlong(g.equal(last, begun), 2) // [B, words]
    banned.push(g.where(isBegun, g.ints(alike.map((word) => word.at(-1)!)), nowhere))
  }
  return banned
}

function penalties(
  g: Graph,
  logits: Float32,
  at: Int,
  { times }: History,
  { repetition, frequency, presence }: Choosing,
): Float32 {
  const there = g.gatherElements(logits, at, 1)
  const repeated = g.where(g.less(there, g.floats(0)), g.mul(there, repetition), g.div(there, repetition))
  const counted = g.add(g.mul(frequency, times), g.mul(presence, g.min(times, g.floats(1))))
  return g.sub(repeated, counted)
}

/**
 * True for each id of `ids [B, T]` that would, coming once more, end a run of `n [B, 1]` ids that was there before:
 * the n - 1 ids before it are the last n - 1.
 */
function endsRepeat(g: Graph, ids: Int, n: Int): Bool {
  const length = g.shape(ids, 1, 2)
  const one = g.ints([1])
  const most = g.op('Max', [g.sub(g.max(n, 0), one), one], ['int64'])[0]
  const back = g.add(g.range(g.toScalar(most)), g.ints(1)) // 1, 2, ... n - 1
  const asRow = g.unsqueeze(back, 0)
  const asColumn = g.unsqueeze(back, 1)
  const zero = g.ints(0)
  const notBefore = (index: Int) => g.op('Max', [index, zero], ['int64'])[0]
  const places = g.sub(g.unsqueeze(g.range(g.toScalar(length)), 0), asColumn) // [K, T]
  const before = g.gather(ids, notBefore(places), 1) // [B, K, T]
  const lastPlaces = g.sub(length, back)
  const last = g.unsqueeze(g.gather(ids, notBefore(lastPlaces), 1), 2) // [B, K, 1]
  const exist = g.and(g.lessOrEqual(zero, places), g.lessOrEqual(zero, g.unsqueeze(lastPlaces, 1)))
  const same = g.and(g.and(g.equal(before, last), g.lessOrEqual(zero, last)), exist)
  const needed = g.unsqueeze(g.less(asRow, n), 2) // [B, K, 1]
  const allSame = g.allAlong(g.or(same, g.not(needed)), 1)
  return g.and(allSame, g.less(zero, n))
}

/**
 * Draws an id of each row `[B, 1]`: the inverse of the cumulative distribution at `uniform [B, 1]`, over the ids in
 * descending probability. A uniform of 0 is the most probable one, so greedy and drawn rows mix.
 */
export function drawn(g: Graph, logits: Float32, uniform: Float32, settings: Choosing): Int {
  const { temperature, topP, topK, candidates } = settings
  const count = g.min(candidates, g.shape(logits, 1, 2))
  const { values, indices } = g.topK(g.div(logits, temperature), count, { sorted: true })
  const isCandidate = g.less(g.range(g.toScalar(count)), topK)
  const shares = g.softmax(g.where(isCandidate, values, g.floats(-Infinity)))
  const nucleus = g.less(g.cumsum(shares, 1, { exclusive: true }), topP)
  const kept = g.where(nucleus, shares, g.floats(0))
  const reached = g.cumsum(kept, 1)
  const below = g.lessOrEqual(reached, g.mul(uniform, g.slice(reached, 1, -1)))
  const countOf = (which: Bool) => g.sum(g.cast(which, 'int64'), 1, true)
  // The most probable one stays, also where the share of the nucleus is none at all.
  const others = g.sub(countOf(g.less(g.floats(0), kept)), g.ints(1))
  const [lastKept] = g.op('Max', [others, g.ints(0)], ['int64'])
  return g.gatherElements(indices, g.min(countOf(below), lastKept), 1)
}

/** The history with the ids `made [B, 1]`. */
export function remembered(g: Graph, { ids, times, least }: History, made: Int): History {
  const same = g.cast(g.equal(ids, made), 'float32')
  const more = g.add(times, same)
  const [ofMade] = g.op('Max', [g.max(g.mul(more, same), 1, true), g.floats(1)], ['float32'])
  return {
    ids: g.concat([ids, made], 1),
    times: g.concat([more, ofMade], 1),
    least: g.sub(least, g.ints(1)),
  }
}
