/** A few pictures again and again, `uint8 [count, height, width, 3]`: as many as are cheap to draw are different. */
export function repeatedPixels(
  count: number,
  size: { height: number; width: number },
  different = 8,
): Uint8Array {
  const drawn = smoothPixels(Math.min(count, different), size)
  const all = new Uint8Array(count * size.height * size.width * 3)
  for (let at = 0; at < all.length; at += drawn.length)
    all.set(drawn.subarray(0, Math.min(drawn.length, all.length - at)), at)
  return all
}

/** Smooth random pictures, `uint8 [count, height, width, 3]`; the same for the same arguments. */
export function smoothPixels(
  count: number,
  { height, width }: { height: number; width: number },
): Uint8Array {
  const pixels = new Uint8Array(count * height * width * 3)
  let state = 7
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  for (let image = 0; image < count; image++)
    for (let channel = 0; channel < 3; channel++) {
      const waves = Array.from(
        { length: 4 },
        () => [random() * 0.1, random() * 0.1, random() * 6.28] as const,
      )
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const sum = waves.reduce((total, [a, b, phase]) => total + Math.sin(a * x + b * y + phase), 0)
          pixels[((image * height + y) * width + x) * 3 + channel] = 127 + 28 * sum + 6 * random()
        }
    }
  return pixels
}
