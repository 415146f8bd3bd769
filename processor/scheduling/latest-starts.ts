/**
 * When a device has to begin with the first, the second, ... image at the latest so that it and all behind it are in
 * time: below 0 where that is impossible. Images are served in order, cut into runs one after the other; of all ways to
 * cut them the one that can begin last. `ends` are the images' own latest ends, ms from now, Infinity for those that
 * need not be in time; `runMs[n]` is what a run of n images takes. O(images * largest run).
 *
 * @returns one more than there are images: Infinity stands behind the last
 */
export function latestStarts(ends: readonly number[], runMs: readonly number[]): number[] {
  const starts = new Array<number>(ends.length + 1).fill(Number.POSITIVE_INFINITY)
  const bounds = tightestFromHere(ends)
  for (let first = ends.length - 1; first >= 0; first--) {
    let latest = Number.NEGATIVE_INFINITY
    const most = Math.min(runMs.length - 1, ends.length - first)
    for (let size = 1; size <= most; size++)
      latest = Math.max(latest, Math.min(bounds[first]!, starts[first + size]!) - runMs[size]!)
    starts[first] = latest
  }
  return starts
}

/** An image is served no later than those behind it, so it has no more time than they have. */
function tightestFromHere(ends: readonly number[]): number[] {
  let tightest = Number.POSITIVE_INFINITY
  return ends
    .toReversed()
    .map((end) => {
      tightest = Math.min(tightest, end)
      return tightest
    })
    .reverse()
}
