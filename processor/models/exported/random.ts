/**
 * Numbers from 0 to below 1 that a seed determines, for one caption: the next number belongs to the next id, whatever
 * the batch or the chunks. (Mulberry32, public domain, Tommy Ettinger.)
 */
export function seededUniforms(seed: number): () => number {
  // Seeds beyond 32 bits count wholly.
  let state = (Math.trunc(seed) ^ Math.trunc(seed / 2 ** 32)) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 8) / 2 ** 24
  }
}
