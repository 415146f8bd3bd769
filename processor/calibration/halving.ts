/** Round of a halving: pictures that each candidate is compared on, and candidates kept for the next round. */
export interface Stage {
  pictures: number
  keep: number
}

/**
 * Successive halving (Jamieson and Talwalkar 2016): few pictures for all candidates, more for the best. Ties keep the first.
 * @param candidates one or more
 * @param score of a candidate on the first so many pictures; higher is better
 * @returns the best of the last stage
 */
export async function halve<T>(
  candidates: readonly T[],
  stages: readonly Stage[],
  score: (candidate: T, pictures: number) => Promise<number>,
): Promise<T> {
  let left = candidates
  for (const { pictures, keep } of stages) {
    const scored: { candidate: T; score: number }[] = []
    for (const candidate of left) scored.push({ candidate, score: await score(candidate, pictures) })
    // Stable: ties keep their order.
    scored.sort((a, b) => b.score - a.score)
    left = scored.slice(0, keep).map(({ candidate }) => candidate)
  }
  return left[0]!
}

/** Number of captions of a halving, with one per candidate and picture. */
export function captionsOf(candidates: number, stages: readonly Stage[]): number {
  let sum = 0
  let before = 0
  let left = candidates
  for (const { pictures, keep } of stages) {
    sum += left * (pictures - before)
    before = pictures
    left = Math.min(left, keep)
  }
  return sum
}
