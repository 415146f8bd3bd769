/**
 * CIDEr-D, the caption metric of Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015,
 * section 5), in the details of the COCO caption evaluation (`cider_scorer.py` of coco-caption, whose `Cider` is
 * CIDEr-D): the mean over n = 1 to 4 of the cosine of TF-IDF vectors of n-grams, counts clipped to the reference's,
 * times a Gaussian of the difference in length, times 10.
 */

const longest = 4
/** Standard deviation of the Gaussian, in words. */
const sigma = 6

/** Scores captions against the references that it was made with. */
export interface CiderD {
  /** Mean over the captions, 0 to 10; caption i belongs to reference i. @throws RangeError when there are too few */
  score(captions: readonly string[]): number
  /** Score of captions equal to the references: 10, less for references of fewer than four words. */
  readonly best: number
}

/**
 * A scorer for captions with one reference each. How rare an n-gram is comes from the references.
 * @example ciderD(['a red car', 'a blue fish']).score(['a red fish', 'a blue fish'])
 */
export function ciderD(references: readonly string[]): CiderD {
  const counted = references.map(ngramCounts)
  const documents = new Map<string, number>()
  for (const counts of counted)
    for (const ngram of counts.keys()) documents.set(ngram, (documents.get(ngram) ?? 0) + 1)
  const rarity = (ngram: string) =>
    Math.log(references.length) - Math.log(Math.max(1, documents.get(ngram) ?? 0))
  const vectors = counted.map((counts) => weigh(counts, rarity))
  const score = (captions: readonly string[]) => {
    if (captions.length !== references.length || captions.length === 0)
      throw new RangeError(`expected ${references.length} captions, one or more, got ${captions.length}`)
    const scores = captions.map((caption, i) => similarity(weigh(ngramCounts(caption), rarity), vectors[i]!))
    return scores.reduce((sum, value) => sum + value, 0) / captions.length
  }
  return { score, best: references.length === 0 ? 0 : score(references) }
}

/** TF-IDF weights of a caption's n-grams. */
interface Vector {
  /** For each n from 1. */
  weights: Map<string, number>[]
  /** Euclidean norm, for each n from 1. */
  norms: number[]
  /** As the evaluation counts it: the number of bigrams. */
  length: number
}

/** Counts n-grams of up to four words, joined by spaces. */
function ngramCounts(caption: string): Map<string, number> {
  const words = wordsOf(caption)
  const counts = new Map<string, number>()
  for (let n = 1; n <= longest; n++)
    for (let at = 0; at + n <= words.length; at++) {
      const ngram = words.slice(at, at + n).join(' ')
      counts.set(ngram, (counts.get(ngram) ?? 0) + 1)
    }
  return counts
}

/** Lower case and without punctuation, as the evaluation's tokenizer leaves them. */
const wordsOf = (caption: string) =>
  caption.toLowerCase().match(/[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu) ?? []

function weigh(counts: Map<string, number>, rarity: (ngram: string) => number): Vector {
  const weights = Array.from({ length: longest }, () => new Map<string, number>())
  let length = 0
  for (const [ngram, count] of counts) {
    const n = ngram.split(' ').length
    weights[n - 1]!.set(ngram, count * rarity(ngram))
    if (n === 2) length += count
  }
  const norms = weights.map((ofN) => Math.hypot(...ofN.values()))
  return { weights, norms, length }
}

/** Similarity of a caption to its reference, 0 to 10. */
function similarity(caption: Vector, reference: Vector): number {
  const penalty = Math.exp(-((caption.length - reference.length) ** 2) / (2 * sigma ** 2))
  const cosines = caption.weights.map((weights, i) => {
    const norms = caption.norms[i]! * reference.norms[i]!
    if (norms === 0) return 0
    let product = 0
    for (const [ngram, weight] of weights) {
      const theirs = reference.weights[i]!.get(ngram) ?? 0
      product += Math.min(weight, theirs) * theirs
    }
    return product / norms
  })
  return (10 * penalty * cosines.reduce((sum, cosine) => sum + cosine, 0)) / longest
}
