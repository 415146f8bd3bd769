/** Typing errors that a name may have to be taken for another one: one in three characters, at most three. */
const mostErrors = (name: string) => Math.min(3, Math.floor(name.length / 3))

/** Longer texts are no misspelt names. */
const maxCharacters = 64

/**
 * The name that a misspelt one is nearest to; undefined if none is near.
 * @example nearest('max_token', ['max_tokens', 'model']) // 'max_tokens'
 */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  if (name.length > maxCharacters) return undefined
  let best: string | undefined
  let least = mostErrors(name) + 1
  for (const candidate of names) {
    const errors = editDistance(name.toLowerCase(), candidate.toLowerCase(), least)
    if (errors < least) [best, least] = [candidate, errors]
  }
  return best
}

/** Characters to insert, delete, replace or swap with a neighbour (Damerau and Levenshtein); `most` if there are more. */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) >= most) return most
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let row = 1; row <= a.length; row++) {
    const next = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      next[column] = Math.min(
        last[column]! + 1,
        next[column - 1]! + 1,
        last[column - 1]! + (same ? 0 : 1),
        swapped ? before[column - 2]! + 1 : Number.POSITIVE_INFINITY,
      )
    }
    ;[before, last] = [last, next]
  }
  return last[b.length]!
}
