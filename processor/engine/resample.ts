import type { Resample } from '../models/pictures.ts'

/** Interleaved RGB, `uint8 [height, width, 3]`. */
export interface Pixels {
  data: Uint8Array
  width: number
  height: number
}

/** How one axis is resampled. Places outside of the source, where `from` and `length` reach them, have the border's colour. */
export interface Axis {
  /** Pixels of the result. */
  size: number
  /** Pixels of the source that the result shows, with a border where that is more than there are. Default: all. */
  shown?: { from: number; length: number }
  /** The part of the result that is wanted. Default: all. */
  part?: { from: number; length: number }
}

interface Filter {
  support: number
  weight(x: number): number
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI))

/** Pillow's filters (`src/libImaging/Resample.c`); its bicubic has a = -0.5. */
const filters: Record<Exclude<Resample, 'nearest'>, Filter> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (distance) => {
      const a = -0.5
      const x = Math.abs(distance)
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    },
  },
  lanczos3: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
}

/** Fixed point, as Pillow has it for 8 bits. */
const precisionBits = 22
const half = 1 << (precisionBits - 1)

/** For each pixel of the result, the first of the source that counts, how many do, and their weights. */
interface Taps {
  first: Int32Array
  count: Int32Array
  /** `[length, most]` */
  weights: Int32Array
  /** Of what is outside of the source. */
  outside: Int32Array
  most: number
}

/** `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow. */
function tapsOf(sourceSize: number, { size, shown, part }: Axis, resample: Resample): Taps {
  const { from: start, length: seen } = shownOf(sourceSize, { size, shown })
  const { from, length } = part ?? { from: 0, length: size }
  const scale = seen / size
  if (resample === 'nearest') return nearestTaps(scale, from, length)
  const { support: radius, weight } = filters[resample]
  const stretch = Math.max(scale, 1)
  const support = radius * stretch
  const most = Math.ceil(support) * 2 + 1
  const taps = emptyTaps(length, most)
  const floats = new Float64Array(most)
  for (let index = 0; index < length; index++) {
    const center = (from + index + 0.5) * scale
    const first = Math.max(0, Math.trunc(center - support + 0.5))
    const count = Math.min(seen, Math.trunc(center + support + 0.5)) - first
    let sum = 0
    for (let tap = 0; tap < count; tap++) {
      floats[tap] = weight((tap + first - center + 0.5) / stretch)
      sum += floats[tap]!
    }
    const inside = { from: Math.max(0, start + first), to: Math.min(sourceSize, start + first + count) }
    taps.first[index] = inside.from
    taps.count[index] = Math.max(0, inside.to - inside.from)
    for (let tap = 0; tap < count; tap++) {
      const value = rounded((sum === 0 ? floats[tap]! : floats[tap]! / sum) * 2 ** precisionBits)
      const place = start + first + tap
      if (place < inside.from || place >= inside.to) taps.outside[index]! += value
      else taps.weights[index * most + place - inside.from] = value
    }
  }
  return taps
}

const rounded = (value: number) => Math.trunc(value < 0 ? value - 0.5 : value + 0.5)

const emptyTaps = (length: number, most: number): Taps => ({
  first: new Int32Array(length),
  count: new Int32Array(length),
  weights: new Int32Array(length * most),
  outside: new Int32Array(length),
  most,
})

/** `ImagingScaleAffine` of Pillow, whose places add up. */
function nearestTaps(scale: number, from: number, length: number): Taps {
  const taps = emptyTaps(length, 1)
  let place = scale * 0.5
  for (let index = 0; index < from + length; index++, place += scale)
    if (index >= from) taps.first[index - from] = Math.floor(place)
  taps.count.fill(1)
  taps.weights.fill(2 ** precisionBits)
  return taps
}

const clip = (sum: number) => (sum <= 0 ? 0 : sum >= 0x3fffffff ? 255 : sum >> precisionBits)

/**
 * Resamples as `Image.resize` of Pillow 13 does, bit for bit: one axis after the other, each rounded to 8 bits.
 *
 * @param border colour of what is shown and not in the source; default: black
 * @example resize({ data, width: 640, height: 480 }, { size: 224 }, { size: 224 }, 'bicubic')
 */
export function resize(
  source: Pixels,
  x: Axis,
  y: Axis,
  resample: Resample,
  border: readonly [number, number, number] = [0, 0, 0],
): Pixels {
  const lines = (pixels: Pixels) =>
    isWhole(source.width, x) ? pixels : alongLines(pixels, x, resample, border)
  const columns = (pixels: Pixels) =>
    isWhole(source.height, y) ? pixels : alongColumns(pixels, y, resample, border)
  // As Pillow has it: where the height shrinks by more than twice what the width does.
  const [fewerLines, fewerColumns] = [
    shownOf(source.height, y).length - y.size,
    shownOf(source.width, x).length - x.size,
  ]
  return fewerLines > 0 && fewerLines > 2 * fewerColumns ? lines(columns(source)) : columns(lines(source))
}

const shownOf = (sourceSize: number, { shown }: Axis) => shown ?? { from: 0, length: sourceSize }

/** Multiplications that `resize` takes, about. */
export function resizeCost(source: { width: number; height: number }, x: Axis, y: Axis, resample: Resample) {
  const taps = (sourceSize: number, axis: Axis) => {
    const radius = resample === 'nearest' ? 0.5 : filters[resample].support
    return 2 * radius * Math.max(1, shownOf(sourceSize, axis).length / axis.size)
  }
  const [width, height] = [x.part?.length ?? x.size, y.part?.length ?? y.size]
  return 3 * width * (source.height * taps(source.width, x) + height * taps(source.height, y))
}

/** The part of a source that `resize` looks at. */
export function neededOf(
  sourceSize: number,
  axis: Axis,
  resample: Resample,
): { from: number; length: number } {
  if (axis.part === undefined || axis.part.length === 0) return { from: 0, length: sourceSize }
  const { first, count } = tapsOf(sourceSize, axis, resample)
  const to = first.at(-1)! + count.at(-1)!
  return { from: first[0]!, length: to - first[0]! }
}

const isWhole = (sourceSize: number, { size, shown, part }: Axis) =>
  size === sourceSize &&
  (shown === undefined || (shown.from === 0 && shown.length === size)) &&
  (part === undefined || (part.from === 0 && part.length === size))

type Border = readonly [number, number, number]

function alongLines({ data, width, height }: Pixels, axis: Axis, resample: Resample, border: Border): Pixels {
  const { first, count, weights, outside, most } = tapsOf(width, axis, resample)
  const size = first.length
  const out = new Uint8Array(size * height * 3)
  for (let line = 0, to = 0; line < height; line++) {
    for (let index = 0; index < size; index++, to += 3) {
      let red = half + outside[index]! * border[0]
      let green = half + outside[index]! * border[1]
      let blue = half + outside[index]! * border[2]
      let from = (line * width + first[index]!) * 3
      const end = index * most + count[index]!
      for (let at = index * most; at < end; at++, from += 3) {
        const weight = weights[at]!
        red = (red + weight * data[from]!) | 0
        green = (green + weight * data[from + 1]!) | 0
        blue = (blue + weight * data[from + 2]!) | 0
      }
      out[to] = clip(red)
      out[to + 1] = clip(green)
      out[to + 2] = clip(blue)
    }
  }
  return { data: out, width: size, height }
}

function alongColumns(
  { data, width, height }: Pixels,
  axis: Axis,
  resample: Resample,
  border: Border,
): Pixels {
  const { first, count, weights, outside, most } = tapsOf(height, axis, resample)
  const size = first.length
  const lineBytes = width * 3
  const out = new Uint8Array(size * lineBytes)
  const sums = new Int32Array(lineBytes)
  for (let line = 0; line < size; line++) {
    for (let at = 0; at < lineBytes; at++) sums[at] = half + outside[line]! * border[at % 3]!
    for (let tap = 0; tap < count[line]!; tap++)
      addLine(sums, data, (first[line]! + tap) * lineBytes, weights[line * most + tap]!)
    const to = line * lineBytes
    for (let at = 0; at < lineBytes; at++) out[to + at] = clip(sums[at]!)
  }
  return { data: out, width, height: size }
}

function addLine(sums: Int32Array, data: Uint8Array, from: number, weight: number): void {
  for (let at = 0; at < sums.length; at++) sums[at] = (sums[at]! + weight * data[from + at]!) | 0
}
