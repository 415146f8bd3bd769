/** A source of uniform numbers in [0, 1). */
export type Random = () => number

/**
 * A small fast generator (sfc32) of uniform numbers in [0, 1). Different streams of one seed are unrelated.
 * @example const random = seededRandom(7)
 */
export function seededRandom(seed: number, stream = 0): Random {
  let a = seed | 0
  let b = stream | 0
  let c = 0x9e3779b9 | 0
  let counter = 1
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + t) | 0
    return (t >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 15; i++) next()
  return next
}
