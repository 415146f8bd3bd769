/** An RGB image, `uint8 [height, width, 3]`. */
export interface RgbImage {
  pixels: Uint8Array
  height: number
  width: number
}

/** Preprocessed image and the merges of its patches. */
export interface Merges extends RgbImage {
  /** Side of a square patch, pixels. */
  patch: number
  /** `[N]`: for every token of the unpruned sequence, the index of the final token that holds it. */
  source: ArrayLike<bigint>
}

export interface DrawOptions {
  /** Pixels of the picture per pixel of the image; default: enough for about 900 pixels. */
  scale?: number
  /** Share of the mean colour in the pixels of a merged region, 0 to 1. */
  tint?: number
}

/** Strength of a line between two unmerged patches. */
const faintLine = 0.2

/** Draws merged patches with a tint of their mean colour and an outline. The patches of a token need not touch. */
export function drawMerges(merges: Merges, options: DrawOptions = {}): RgbImage {
  const { scale = defaultScale(merges), tint = 0.4 } = options
  const { patch } = merges
  const regions = findRegions(merges)
  const side = patch * scale
  const lineWidth = Math.max(1, Math.round(side / 32))
  const height = merges.height * scale
  const width = merges.width * scale
  const pixels = new Uint8Array(height * width * 3)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const row = Math.floor(y / side)
      const column = Math.floor(x / side)
      const region = regions.at(row, column)!
      const line = lineStrength(regions, row, column, { x: x % side, y: y % side, side, lineWidth })
      const from = (Math.floor(y / scale) * merges.width + Math.floor(x / scale)) * 3
      const to = (y * width + x) * 3
      for (let channel = 0; channel < 3; channel++) {
        const mean = region.color[channel]!
        const color = mix(merges.pixels[from + channel]!, mean, region.patches > 1 ? tint : 0)
        pixels[to + channel] = Math.round(mix(color, region.lineShade, line))
      }
    }
  return { pixels, height, width }
}

const defaultScale = ({ height, width }: RgbImage) => Math.max(1, Math.round(900 / Math.max(height, width)))

const mix = (a: number, b: number, share: number) => a + (b - a) * share

/** The patches of one final token. */
interface Region {
  patches: number
  /** Mean colour, RGB. */
  color: number[]
  /** Black or white, whichever stands out. */
  lineShade: number
}

interface Regions {
  /** The region of a patch; undefined outside the image. */
  at(row: number, column: number): Region | undefined
}

function findRegions(merges: Merges): Regions {
  const { height, width, patch, source } = merges
  const rows = height / patch
  const columns = width / patch
  // CLS comes before the patches.
  const firstPatch = source.length - rows * columns
  const byToken = new Map<bigint, Region>()
  const regionOf: Region[] = []
  for (let i = 0; i < rows * columns; i++) {
    const token = source[firstPatch + i]!
    const region = byToken.get(token) ?? { patches: 0, color: [0, 0, 0], lineShade: 0 }
    const color = meanColor(merges, Math.floor(i / columns), i % columns)
    region.patches++
    region.color = region.color.map((mean, channel) => mix(mean, color[channel]!, 1 / region.patches))
    byToken.set(token, region)
    regionOf.push(region)
  }
  for (const region of byToken.values()) region.lineShade = brightness(region.color) > 140 ? 0 : 255
  return {
    at: (row, column) =>
      row < 0 || column < 0 || row >= rows || column >= columns
        ? undefined
        : regionOf[row * columns + column],
  }
}

/** Rec. 601 luma of an RGB colour. */
const brightness = ([red = 0, green = 0, blue = 0]: number[]) => 0.299 * red + 0.587 * green + 0.114 * blue

function meanColor({ pixels, width, patch }: Merges, row: number, column: number): number[] {
  const sum = [0, 0, 0]
  for (let y = row * patch; y < (row + 1) * patch; y++)
    for (let x = column * patch; x < (column + 1) * patch; x++)
      for (let channel = 0; channel < 3; channel++) sum[channel]! += pixels[(y * width + x) * 3 + channel]!
  return sum.map((value) => value / patch ** 2)
}

interface Place {
  /** Position inside the patch as drawn. */
  x: number
  y: number
  side: number
  lineWidth: number
}

/** Opacity of the line at a pixel, 0 to 1: each patch draws its half of the lines to its neighbours. */
function lineStrength(regions: Regions, row: number, column: number, place: Place): number {
  const { x, y, side, lineWidth } = place
  const own = regions.at(row, column)!
  const towards = (near: boolean, neighbour: Region | undefined) => {
    if (!near || neighbour === undefined || neighbour === own) return 0
    return own.patches > 1 || neighbour.patches > 1 ? 1 : faintLine
  }
  return Math.max(
    towards(x < lineWidth, regions.at(row, column - 1)),
    towards(x >= side - lineWidth, regions.at(row, column + 1)),
    towards(y < lineWidth, regions.at(row - 1, column)),
    towards(y >= side - lineWidth, regions.at(row + 1, column)),
  )
}
