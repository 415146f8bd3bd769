/** Side of a picture, in pixels. */
export const SIDE = 224
/** Side of one patch of the image encoder, in pixels. */
export const PATCH = 16

export type Rgb = readonly [red: number, green: number, blue: number]

/** A point in the picture, or in a shape's own unit square of -1..1 (y grows downwards). */
export type Point = readonly [x: number, y: number]

/** Colour of a part: a shade of the object's colour, or a fixed colour. */
export type Paint = { shade: number } | { fixed: Rgb }

/** One polygon of a shape; the parts of a shape are painted in order. */
export type Part = { outline: readonly Point[]; paint: Paint }

const OWN: Paint = { shade: 1 }

function ellipse(cx: number, cy: number, rx: number, ry: number, corners = 28): Point[] {
  return arc(cx, cy, rx, ry, 0, 2 * Math.PI * (1 - 1 / corners), corners)
}

function arc(cx: number, cy: number, rx: number, ry: number, from: number, to: number, corners: number) {
  return Array.from({ length: corners }, (_, i): Point => {
    const angle = from + ((to - from) * i) / (corners - 1)
    return [cx + rx * Math.cos(angle), cy + ry * Math.sin(angle)]
  })
}

/** Points in the notation of SVG's `points` attribute: `x,y x,y`. */
const polygon = (points: string): Point[] =>
  points.split(' ').map((point) => {
    const [x, y] = point.split(',').map(Number)
    return [x!, y!]
  })

function star(inner: number): Point[] {
  return Array.from({ length: 10 }, (_, i): Point => {
    const radius = i % 2 === 0 ? 1 : inner
    const angle = (i * Math.PI) / 5 - Math.PI / 2
    return [radius * Math.cos(angle), radius * Math.sin(angle)]
  })
}

function heart(): Point[] {
  return Array.from({ length: 36 }, (_, i): Point => {
    const t = (i * 2 * Math.PI) / 36
    const y = 13 * Math.cos(t) - 5 * Math.cos(2 * t) - 2 * Math.cos(3 * t) - Math.cos(4 * t)
    return [Math.sin(t) ** 3, -y / 16]
  })
}

/** A crescent: the unit disc without a disc of radius `bite` whose centre lies `offset` to the right. */
function crescent(offset: number, bite: number): Point[] {
  const x = (1 + offset ** 2 - bite ** 2) / (2 * offset)
  const outer = Math.acos(x)
  const inner = Math.acos((x - offset) / bite)
  const points = [
    ...arc(0, 0, 1, 1, outer, 2 * Math.PI - outer, 26),
    ...arc(offset, 0, bite, bite, 2 * Math.PI - inner, inner, 22),
  ]
  return points.map(([px, py]) => [px + (1 - x) / 2, py])
}

/**
 * The twelve kinds of object as polygons, each within about one unit of its centre. The thin ones (fish, moon, boat) are
 * drawn stout, so that even a small one is recognizable in two or three patches.
 */
export const SHAPES = {
  circle: [{ outline: ellipse(0, 0, 0.95, 0.95, 32), paint: OWN }],
  square: [{ outline: box(-0.85, -0.85, 0.85, 0.85), paint: OWN }],
  triangle: [{ outline: polygon('0,-0.95 0.98,0.8 -0.98,0.8'), paint: OWN }],
  star: [{ outline: star(0.42), paint: OWN }],
  heart: [{ outline: heart(), paint: OWN }],
  moon: [{ outline: crescent(0.52, 0.72), paint: OWN }],
  cloud: [
    { outline: ellipse(-0.52, 0.16, 0.46, 0.42), paint: OWN },
    { outline: ellipse(0.52, 0.18, 0.46, 0.4), paint: OWN },
    { outline: ellipse(0, -0.15, 0.55, 0.52), paint: OWN },
    { outline: box(-0.6, 0.1, 0.6, 0.58), paint: OWN },
  ],
  tree: [
    { outline: box(-0.19, 0.3, 0.19, 1), paint: { fixed: [105, 70, 40] } },
    { outline: ellipse(0, -0.27, 0.68, 0.72), paint: OWN },
  ],
  house: [
    { outline: box(-0.7, -0.1, 0.7, 0.9), paint: OWN },
    { outline: polygon('-0.98,-0.1 0,-0.95 0.98,-0.1'), paint: { shade: 0.62 } },
    { outline: box(-0.19, 0.35, 0.19, 0.9), paint: { shade: 0.35 } },
  ],
  fish: [
    { outline: polygon('0.3,0 0.98,-0.66 0.84,0 0.98,0.66'), paint: { shade: 0.75 } },
    { outline: ellipse(-0.2, 0, 0.76, 0.62), paint: OWN },
    { outline: ellipse(-0.58, -0.14, 0.12, 0.12, 10), paint: { fixed: [25, 25, 25] } },
  ],
  boat: [
    { outline: polygon('-0.98,0.25 0.98,0.25 0.6,0.88 -0.6,0.88'), paint: OWN },
    { outline: box(-0.06, -0.95, 0.07, 0.25), paint: { shade: 0.4 } },
    { outline: polygon('0.12,-0.9 0.88,0.14 0.12,0.14'), paint: { shade: 1.25 } },
    { outline: polygon('-0.11,-0.72 -0.11,0.14 -0.72,0.14'), paint: { shade: 1.25 } },
  ],
  car: [
    { outline: polygon('-0.5,-0.55 0.4,-0.55 0.68,0 -0.72,0'), paint: { shade: 0.75 } },
    { outline: box(-0.98, -0.03, 0.98, 0.46), paint: OWN },
    { outline: ellipse(-0.52, 0.46, 0.27, 0.27, 16), paint: { fixed: [30, 30, 30] } },
    { outline: ellipse(0.52, 0.46, 0.27, 0.27, 16), paint: { fixed: [30, 30, 30] } },
  ],
} satisfies Record<string, Part[]>

function box(left: number, top: number, right: number, bottom: number): Point[] {
  return [
    [left, top],
    [right, top],
    [right, bottom],
    [left, bottom],
  ]
}

/** Placement of a shape: centre and radius in pixels, angle in radians. */
export type Placement = {
  kind: keyof typeof SHAPES
  x: number
  y: number
  radius: number
  angle: number
  /** Width over height, relative to the shape's own; negative when mirrored. */
  stretch: number
}

/** The polygons of a placed shape in picture coordinates. */
export function shapeParts({ kind, x, y, radius, angle, stretch }: Placement): Part[] {
  const cos = radius * Math.cos(angle)
  const sin = radius * Math.sin(angle)
  const high = 1 / Math.abs(stretch)
  const turn = ([px, py]: Point): Point => [
    x + px * stretch * cos - py * high * sin,
    y + px * stretch * sin + py * high * cos,
  ]
  const parts: readonly Part[] = SHAPES[kind]
  return parts.map(({ outline, paint }) => ({ outline: outline.map(turn), paint }))
}
