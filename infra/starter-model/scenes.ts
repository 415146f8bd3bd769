import {
  COLORS,
  type Color,
  caption,
  isHeldOut,
  KINDS,
  type ObjectSize,
  PLACES,
  type Relation,
  SIZES,
  type Story,
  TIMES,
} from './captions.ts'
import { type Random, seededRandom } from './random.ts'
import type { Scene, SceneObject } from './scene.ts'
import { type Point, type Rgb, SIDE, shapeParts } from './shapes.ts'

export * from './captions.ts'
export { renderScene, sceneSvg } from './drawing.ts'
export { patchLabels } from './patch-labels.ts'
export { type Random, seededRandom } from './random.ts'
export { PATCH, SIDE } from './shapes.ts'

const COLOR_RGB: Record<Color, Rgb> = {
  red: [214, 40, 40],
  orange: [240, 130, 25],
  yellow: [245, 215, 50],
  green: [45, 150, 60],
  blue: [40, 85, 205],
  purple: [125, 55, 170],
  pink: [245, 145, 185],
  white: [242, 242, 240],
}
const RADIUS: Record<ObjectSize, number> = { small: 0.1 * SIDE, large: 0.165 * SIDE }

const RELATIONS_BY_COUNT = {
  1: ['alone'],
  2: ['left', 'above'],
  3: ['above-two', 'two-above', 'between'],
} as const

export type SampleOptions = {
  /** Number of objects; by default 1, 2 or 3 in 25, 40 and 35 % of the scenes. */
  objects?: 1 | 2 | 3
  /** Only scenes whose caption is held out of training, or only the others. By default either. */
  split?: Split
}
export type Split = 'training' | 'held-out'

/**
 * Draws a scene at random. Everything random in the picture is decided here.
 * @example const scene = sampleScene(seededRandom(7), { objects: 2 })
 */
export function sampleScene(random: Random, options: SampleOptions = {}): Scene {
  for (;;) {
    const story = sampleStory(random, options)
    const objects = placeObjects(random, story)
    if (objects) return { ...story, ...sampleSurroundings(random, story), objects }
  }
}

const TRAINING_STREAM = 1
const HELD_OUT_STREAM = 2

/** The endless sequence of scenes of a seed and split; the splits share neither captions nor random numbers. */
export function* sceneSequence(seed: number, split: Split): Generator<Scene, never> {
  const random = seededRandom(seed, split === 'training' ? TRAINING_STREAM : HELD_OUT_STREAM)
  for (;;) yield sampleScene(random, { split })
}

/** `count` scenes the starter model has never seen, with captions it has never seen: for tests and benchmarks. */
export function heldOutScenes(seed: number, count: number): Scene[] {
  const scenes = sceneSequence(seed, 'held-out')
  return Array.from({ length: count }, () => scenes.next().value)
}

function uniform(random: Random, from: number, to: number): number {
  return from + (to - from) * random()
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)]!
}

function sampleStory(random: Random, { objects, split }: SampleOptions): Story {
  for (;;) {
    const u = random()
    const count = objects ?? (u < 0.25 ? 1 : u < 0.65 ? 2 : 3)
    const mention = () => ({
      kind: pick(random, KINDS),
      color: pick(random, COLORS),
      size: pick(random, SIZES),
    })
    const story = {
      relation: pick(random, RELATIONS_BY_COUNT[count]),
      objects: Array.from({ length: count }, mention),
      place: pick(random, PLACES),
      time: pick(random, TIMES),
    }
    if (!split || isHeldOut(caption(story)) === (split === 'held-out')) return story
  }
}

/** Centres of the objects in the order of mention, in units of the picture's side. */
function sampleCentres(random: Random, relation: Relation): Point[] {
  const near = (value: number, spread: number) => uniform(random, value - spread, value + spread)
  const within = (value: number) => Math.min(0.8, Math.max(0.2, value))
  const gap = uniform(random, 0.36, 0.56)
  const along = uniform(random, 0.2, 0.8 - gap)
  const across = uniform(random, 0.25, 0.75)
  const first = within(near(across, 0.12))
  const second = within(near(across, 0.12))
  switch (relation) {
    case 'alone':
      return [[uniform(random, 0.2, 0.8), uniform(random, 0.2, 0.8)]]
    case 'left':
      return [
        [along, first],
        [along + gap, second],
      ]
    case 'above':
      return [
        [first, along],
        [second, along + gap],
      ]
    case 'above-two':
      return [
        [near(0.5, 0.1), near(0.23, 0.04)],
        [near(0.24, 0.05), near(0.76, 0.04)],
        [near(0.76, 0.05), near(0.76, 0.04)],
      ]
    case 'two-above':
      return [
        [near(0.24, 0.05), near(0.24, 0.04)],
        [near(0.76, 0.05), near(0.24, 0.04)],
        [near(0.5, 0.1), near(0.77, 0.04)],
      ]
    case 'between':
      return [
        [near(0.5, 0.02), near(across, 0.09)],
        [near(0.185, 0.02), near(across, 0.09)],
        [near(0.815, 0.02), near(across, 0.09)],
      ]
  }
}

/** Places the objects inside the picture and clear of each other; undefined when they do not fit. */
function placeObjects(random: Random, { objects, relation }: Story): SceneObject[] | undefined {
  for (let attempt = 0; attempt < 200; attempt++) {
    const centres = sampleCentres(random, relation)
    const placed = objects.map((mention, i): SceneObject => {
      const [x, y] = centres[i]!
      const glow = uniform(random, 0.92, 1.05)
      const own = (channel: number) => channel * glow + uniform(random, -9, 9)
      const [red, green, blue] = COLOR_RGB[mention.color]
      return {
        ...mention,
        x: x * SIDE,
        y: y * SIDE,
        radius: RADIUS[mention.size] * uniform(random, 0.93, 1.06),
        angle: (uniform(random, -14, 14) * Math.PI) / 180,
        stretch: uniform(random, 0.94, 1.06) * (random() < 0.5 ? -1 : 1),
        rgb: [own(red), own(green), own(blue)],
      }
    })
    if (isClear(placed.map(boundsOf))) return placed
  }
  return undefined
}

type Bounds = { left: number; top: number; right: number; bottom: number }

function boundsOf(object: SceneObject): Bounds {
  const points = shapeParts(object).flatMap((part) => part.outline)
  const xs = points.map(([x]) => x)
  const ys = points.map(([, y]) => y)
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) }
}

/** Bounding boxes may share a sliver of 3 px (the shapes themselves hardly fill their corners), not more. */
function isClear(all: Bounds[]): boolean {
  const inside = (b: Bounds) => b.left >= 2 && b.top >= 2 && b.right <= SIDE - 2 && b.bottom <= SIDE - 2
  const apart = (a: Bounds, b: Bounds) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) < 3 ||
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) < 3
  return all.every((a, i) => inside(a) && all.slice(i + 1).every((b) => apart(a, b)))
}

function sampleSurroundings(random: Random, { time }: Story): Omit<Scene, keyof Story> {
  const horizon = Math.round(SIDE * uniform(random, 0.38, 0.62))
  const scatter = (count: number, top: number, bottom: number) =>
    Array.from({ length: Math.floor(count) }, (): Point => [random() * SIDE, uniform(random, top, bottom)])
  const birds = random() < 0.4 ? uniform(random, 1, 4) : 0
  return {
    horizon,
    groundMarks: scatter(uniform(random, 8, 22), horizon + 0.04 * (SIDE - horizon), SIDE),
    skyMarks: scatter(time === 'at night' ? uniform(random, 6, 16) : birds, 4, horizon - 6),
    shading: Array.from({ length: 25 }, () => 1 + uniform(random, -0.09, 0.09)),
    lightFromRight: uniform(random, -0.12, 0.12),
    exposure: uniform(random, 0.9, 1.08),
    noise: Math.floor(random() * 2 ** 32),
  }
}
