import { randomScores } from './merge.ts'
import { defaultThreshold, type TurboMode } from './schedule.ts'

/** One image's tokens, rows of numbers. */
export interface ReferenceTokens {
  /** `[N][D]` */
  x: number[][]
  /** `[N]` */
  sizes: number[]
  /** For every token that entered the encoder the index of the token that holds it, `[N0]`. */
  source: number[]
}

export interface ReferenceAttention {
  /** `[heads][N][headWidth]` */
  keys: number[][][]
  /** Query of the CLS token, `[heads][headWidth]` */
  clsQuery: number[][]
  scale: number
}

export interface ReferenceSettings {
  r: number
  weight: number
  mode?: TurboMode
  threshold?: number
  layer?: number
}

/**
 * The Turbo module for one image in plain numbers, written for reading: what `turboMerge` is tested against.
 * The rules are those of the official BLIP code (ECCV 2024); equal scores and equal similarities: lower index first.
 */
export function referenceMerge(
  tokens: ReferenceTokens,
  attention: ReferenceAttention,
  { r, weight, mode = 'turbo', threshold = defaultThreshold, layer = 0 }: ReferenceSettings,
): ReferenceTokens {
  const n = tokens.x.length
  const merging = n < threshold ? 0 : Math.min(r, Math.floor((n - 1) / 2))
  if (merging === 0) return tokens

  const metric = meanKeys(attention.keys).map(normalise)
  const value = semanticValues(attention, tokens.sizes)
  const evens = range(n).filter((i) => i % 2 === 0)
  const odds = range(n).filter((i) => i % 2 === 1)
  const random = randomScores(layer, evens.length)

  const candidates = evens.slice(1).map((i) => {
    const similarities = odds.map((j) => dot(metric[i]!, metric[j]!))
    const redundancy = Math.max(...similarities)
    const scores: Record<TurboMode, number> = {
      turbo: redundancy - weight * value[i]!,
      tome: redundancy,
      attention: -value[i]!,
      random: random[i / 2]!,
    }
    return { i, into: odds[similarities.indexOf(redundancy)]!, score: scores[mode] }
  })
  const merged = candidates.toSorted((a, b) => b.score - a.score || a.i - b.i).slice(0, merging)

  const kept = evens.filter((i) => !merged.some((m) => m.i === i))
  const order = [...kept, ...odds]
  const members = order.map((i) => [i, ...merged.filter((m) => m.into === i).map((m) => m.i)])
  const holder = new Map(members.flatMap((group, at) => group.map((i) => [i, at] as const)))
  return {
    x: members.map((group) =>
      weightedMean(group.map((i) => ({ row: tokens.x[i]!, size: tokens.sizes[i]! }))),
    ),
    sizes: members.map((group) => group.reduce((sum, i) => sum + tokens.sizes[i]!, 0)),
    source: tokens.source.map((i) => holder.get(i)!),
  }
}

/** Attention of CLS to every token after log(size) is added to the logits, mean over heads. */
function semanticValues({ keys, clsQuery, scale }: ReferenceAttention, sizes: number[]): number[] {
  const perHead = keys.map((rows, h) =>
    softmax(rows.map((key, i) => dot(clsQuery[h]!, key) * scale + Math.log(sizes[i]!))),
  )
  return sizes.map((_, i) => perHead.reduce((sum, row) => sum + row[i]!, 0) / perHead.length)
}

function meanKeys(keys: number[][][]): number[][] {
  return keys[0]!.map((row, i) =>
    row.map((_, c) => keys.reduce((sum, k) => sum + k[i]![c]!, 0) / keys.length),
  )
}

function weightedMean(rows: { row: number[]; size: number }[]): number[] {
  const total = rows.reduce((sum, { size }) => sum + size, 0)
  return rows[0]!.row.map((_, c) => rows.reduce((sum, { row, size }) => sum + row[c]! * size, 0) / total)
}

function softmax(logits: number[]): number[] {
  const highest = Math.max(...logits)
  const exps = logits.map((logit) => Math.exp(logit - highest))
  const sum = exps.reduce((a, b) => a + b, 0)
  return exps.map((e) => e / sum)
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i)
const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
const normalise = (row: number[]) => {
  const norm = Math.sqrt(dot(row, row))
  return row.map((value) => value / norm)
}
