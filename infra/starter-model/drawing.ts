import sharp from 'sharp'
import type { Ground, Time } from './captions.ts'
import { seededRandom } from './random.ts'
import type { Scene, SceneObject } from './scene.ts'
import { type Paint, type Point, type Rgb, SIDE, shapeParts } from './shapes.ts'

/** Parses `#rrggbb`. */
const hex = (color: string) =>
  [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16)) as [number, number, number]

const SKY: Record<Time, readonly [top: Rgb, bottom: Rgb]> = {
  'by day': [hex('#5fa5eb'), hex('#bedcf5')],
  'at sunset': [hex('#5f4682'), hex('#faa05f')],
  'at night': [hex('#0a0e28'), hex('#232d55')],
}
const GROUND: Record<Ground, readonly [top: Rgb, bottom: Rgb]> = {
  meadow: [hex('#78af55'), hex('#558c3c')],
  desert: [hex('#e1c387'), hex('#c8a064')],
  sea: [hex('#4687af'), hex('#1e5a91')],
  snow: [hex('#e4eaf2'), hex('#cdd7e6')],
  road: [hex('#8c8c91'), hex('#5f5f64')],
}
const GROUND_LIGHT: Record<Time, Rgb> = {
  'by day': [1, 1, 1],
  'at sunset': [1, 0.78, 0.66],
  'at night': [0.36, 0.4, 0.55],
}
const OBJECT_LIGHT: Record<Time, Rgb> = {
  'by day': [1, 1, 1],
  'at sunset': [1, 0.93, 0.88],
  'at night': [0.8, 0.82, 0.9],
}

/** Marks on the ground of a place: path of one mark of width `w`, colour and opacity. */
const GROUND_MARK: Record<Ground, { path: (w: number) => string; rgb: Rgb; opacity: number; width: number }> =
  {
    meadow: {
      path: (w) => `l${-0.4 * w} ${-w}m${0.4 * w} ${w}l${0.4 * w} ${-w}`,
      rgb: [50, 110, 40],
      opacity: 0.6,
      width: 1,
    },
    desert: { path: (w) => `l${3 * w} -.5`, rgb: [150, 115, 70], opacity: 0.45, width: 1 },
    sea: { path: (w) => `l${w} -2l${w} 2`, rgb: [190, 220, 240], opacity: 0.55, width: 1 },
    snow: { path: (w) => `h${0.3 * w}`, rgb: [165, 180, 205], opacity: 0.6, width: 2.2 },
    road: { path: (w) => `h${0.8 * w}`, rgb: [60, 60, 60], opacity: 0.5, width: 1 },
  }

/** Scene as an SVG document of 224 x 224, without soft light and noise. */
export function sceneSvg(scene: Scene): string {
  const [skyTop, skyBottom] = SKY[scene.time]
  const [groundTop, groundBottom] = GROUND[scene.place]
  const groundLight = GROUND_LIGHT[scene.time]
  const { horizon } = scene
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE}" viewBox="0 0 ${SIDE} ${SIDE}">`,
    `<defs>${gradient('sky', skyTop, skyBottom)}${gradient('ground', times(groundTop, groundLight), times(groundBottom, groundLight))}</defs>`,
    `<path fill="url(#sky)" d="M0 0H${SIDE}V${horizon}H0Z"/>`,
    `<path fill="url(#ground)" d="M0 ${horizon}H${SIDE}V${SIDE}H0Z"/>`,
    groundMarksSvg(scene),
    skyMarksSvg(scene),
    ...scene.objects.map((object) => objectSvg(object, scene.time)),
    '</svg>',
  ].join('')
}

function gradient(id: string, top: Rgb, bottom: Rgb): string {
  return (
    `<linearGradient id="${id}" x1="0" y1="0" x2="0" y2="1">` +
    `<stop offset="0" stop-color="${css(top)}"/><stop offset="1" stop-color="${css(bottom)}"/></linearGradient>`
  )
}

function groundMarksSvg({ place, time, horizon, groundMarks }: Scene): string {
  const { path, rgb, opacity, width } = GROUND_MARK[place]
  const dim = time === 'at night' ? 0.45 : 1
  const marks = groundMarks.map(
    ([x, y]) => `M${coordinate(x)} ${coordinate(y)}${path(2 + (5 * (y - horizon)) / SIDE)}`,
  )
  const stroke = `stroke="${css(times(rgb, [dim, dim, dim]))}" stroke-opacity="${opacity}" stroke-width="${width}"`
  const scattered = `<path fill="none" stroke-linecap="round" ${stroke} d="${marks.join('')}"/>`
  if (place !== 'road') return scattered
  const paint = css(times([225, 215, 170], [dim, dim, dim]))
  const middle = `M${-(groundMarks.length % 34)} ${Math.round(horizon + (SIDE - horizon) * 0.55)}H${SIDE}`
  return `${scattered}<path fill="none" stroke="${paint}" stroke-width="4" stroke-dasharray="15 19" d="${middle}"/>`
}

function skyMarksSvg({ time, skyMarks }: Scene): string {
  if (skyMarks.length === 0) return ''
  const night = time === 'at night'
  const marks = skyMarks.map(([x, y]) => `M${coordinate(x)} ${coordinate(y)}${night ? 'h1.5' : 'l3 2l3 -2'}`)
  return `<path fill="none" stroke="${night ? '#dcdceb' : '#3c3c46'}" d="${marks.join('')}"/>`
}

function objectSvg(object: SceneObject, time: Time): string {
  const light = OBJECT_LIGHT[time]
  const parts = shapeParts(object)
  const edge = css(times(object.rgb, times(light, [0.45, 0.45, 0.45])))
  const silhouette = parts.map((part) => polygonPath(part.outline)).join('')
  const fills = parts.map(
    (part) =>
      `<path fill="${css(times(colorOf(part.paint, object), light))}" d="${polygonPath(part.outline)}"/>`,
  )
  return `<path fill="none" stroke="${edge}" stroke-width="2" stroke-linejoin="round" d="${silhouette}"/>${fills.join('')}`
}

function colorOf(paint: Paint, { rgb }: SceneObject): Rgb {
  return 'fixed' in paint ? paint.fixed : times(rgb, [paint.shade, paint.shade, paint.shade])
}

function polygonPath(outline: readonly Point[]): string {
  return `M${outline.map(([x, y]) => `${coordinate(x)} ${coordinate(y)}`).join('L')}Z`
}

function coordinate(value: number): number {
  return Math.round(value * 10) / 10
}

function times(a: Rgb, b: Rgb): Rgb {
  return [a[0] * b[0], a[1] * b[1], a[2] * b[2]]
}

function css(rgb: Rgb): string {
  return `rgb(${rgb.map((channel) => Math.round(Math.min(255, Math.max(0, channel)))).join(',')})`
}

/** Draws the scene: `uint8 [224, 224, 3]`, RGB, row by row. */
export async function renderScene(scene: Scene): Promise<Uint8Array> {
  const rgba = await sharp(Buffer.from(sceneSvg(scene)))
    .ensureAlpha()
    .raw()
    .toBuffer()
  return light(rgba, scene)
}

/** Adds soft shading, light from one side, exposure and noise; RGBA in, RGB out. */
function light(rgba: Uint8Array, { shading, lightFromRight, exposure, noise }: Scene): Uint8Array {
  const rgb = new Uint8ClampedArray(SIDE * SIDE * 3)
  const grain = noiseGrid(noise)
  const row = new Float32Array(5)
  for (let y = 0, from = 0, to = 0; y < SIDE; y++) {
    const [above, down] = GRID_POSITIONS[y]!
    for (let i = 0; i < 5; i++) {
      const upper = shading[5 * above + i]!
      row[i] = upper + (shading[5 * above + 5 + i]! - upper) * down
    }
    for (let x = 0; x < SIDE; x++, from += 4, to += 3) {
      const [before, right] = GRID_POSITIONS[x]!
      const left = row[before]!
      const soft = left + (row[before + 1]! - left) * right
      const gain = exposure * soft * (1 + lightFromRight * ((2 * x) / (SIDE - 1) - 1))
      const dust = grain[(y >> 1) * (SIDE / 2) + (x >> 1)]!
      rgb[to] = rgba[from]! * gain + dust
      rgb[to + 1] = rgba[from + 1]! * gain + dust
      rgb[to + 2] = rgba[from + 2]! * gain + dust
    }
  }
  return new Uint8Array(rgb.buffer)
}

/** For each pixel, the grid cell before it and its eased share of the way to the next. */
const GRID_POSITIONS = Array.from({ length: SIDE }, (_, pixel): readonly [cell: number, share: number] => {
  const position = (4 * (pixel + 0.5)) / SIDE
  const cell = Math.floor(position)
  const share = position - cell
  return [cell, share * share * (3 - 2 * share)]
})

/** Noise of -4 to 4 for every 2 x 2 pixels. */
function noiseGrid(seed: number): Int8Array {
  const random = seededRandom(seed)
  return Int8Array.from({ length: (SIDE / 2) ** 2 }, () => Math.floor(random() * 9) - 4)
}
