/** An RGB image, `uint8 [height, width, 3]`. */
export interface RgbImage {
  pixels: Uint8Array
  height: number
  width: number
}

/** Preprocessed image and the merges of its patches. */
export interface Merges extends RgbImage {
  /** Side of a square patch, pixels; absent where tokens are no patches: nothing is outlined. */
  patch?: number | undefined
  /** `[N]`: for every token of the unpruned sequence, the index of the final token that holds it. */
  source: BigInt64Array
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
  const { patch = Math.max(merges.height, merges.width) } = merges
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
      const region = regions.at(row, column)
      const from = (Math.floor(y / scale) * merges.width + Math.floor(x / scale)) * 3
      const to = (y * width + x) * 3
      if (region === undefined) {
        pixels.set(merges.pixels.subarray(from, from + 3), to)
        continue
      }
      const line = lineStrength(regions, row, column, { x: x % side, y: y % side, side, lineWidth })
      for (let channel = 0; channel < 3; channel++) {
        const mean = region.color[channel]!
        const color = mix(merges.pixels[from + channel]!, mean, region.patches > 1 ? tint : 0)
        pixels[to + channel] = Math.round(mix(color, region.lineShade, line))
      }
    }
  return { pixels, height, width }
}

/** How the tiles of a picture lie: `rows * cols` of them, and the whole picture as the last; one that was not split has 0 rows. */
export interface Tiles {
  count: number
  rows: number
  cols: number
}

/** Merges of each tile of a picture: pixels and sources one behind the other. */
export type TiledMerges = Merges & { tiles?: Tiles | undefined }

/** Draws each tile in its place on the picture, and the whole picture, as the model sees it beside them, below. */
export function drawTiles({ tiles, ...merges }: TiledMerges, options: DrawOptions = {}): RgbImage {
  if (tiles === undefined || tiles.rows === 0) return drawMerges(merges, options)
  const { count, rows, cols } = tiles
  const height = (rows + 1) * merges.height
  const width = cols * merges.width
  const { scale = defaultScale({ ...merges, height, width }) } = options
  const pixels = new Uint8Array(height * width * scale ** 2 * 3).fill(255)
  const whole = { pixels, height: height * scale, width: width * scale }
  for (let tile = 0; tile < count; tile++) {
    const picture = drawMerges(
      { ...merges, pixels: partOf(merges.pixels, tile, count), source: partOf(merges.source, tile, count) },
      { ...options, scale },
    )
    const [row, column] = tile < rows * cols ? [Math.floor(tile / cols), tile % cols] : [rows, 0]
    place(picture, whole, row * picture.height, column * picture.width)
  }
  return whole
}

/** The part of a tile of so many. */
function partOf<List extends Uint8Array | BigInt64Array>(list: List, tile: number, count: number): List {
  const length = list.length / count
  return list.subarray(tile * length, (tile + 1) * length) as List
}

function place(picture: RgbImage, into: RgbImage, top: number, left: number): void {
  const bytes = picture.width * 3
  for (let line = 0; line < picture.height; line++)
    into.pixels.set(
      picture.pixels.subarray(line * bytes, (line + 1) * bytes),
      ((top + line) * into.width + left) * 3,
    )
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

function findRegions({ patch, ...merges }: Merges): Regions {
  if (patch === undefined) return { at: () => undefined }
  const { height, width, source } = merges
  // What is left at the end of a side is in no patch.
  const rows = Math.floor(height / patch)
  const columns = Math.floor(width / patch)
  // CLS comes before the patches.
  const firstPatch = source.length - rows * columns
  const byToken = new Map<bigint, Region>()
  const regionOf: Region[] = []
  for (let i = 0; i < rows * columns; i++) {
    const token = source[firstPatch + i]!
    const region = byToken.get(token) ?? { patches: 0, color: [0, 0, 0], lineShade: 0 }
    const color = meanColor({ ...merges, patch }, Math.floor(i / columns), i % columns)
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

function meanColor(
  { pixels, width, patch }: RgbImage & { patch: number },
  row: number,
  column: number,
): number[] {
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
