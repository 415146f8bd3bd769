import type { Scene } from './scene.ts'
import { PATCH, type Point, SIDE, shapeParts } from './shapes.ts'

const STEP = 2
const CELLS = SIDE / STEP
const PATCHES = SIDE / PATCH

/**
 * Labels each of the 14 x 14 patches with the object that it shows: 0 background, i the i-th mentioned object, where the object covers
 * at least 8 % of the patch (and most of the covered part, when there are two). `uint8 [196]`, row by row.
 */
export function patchLabels(scene: Scene): Uint8Array {
  const cover = new Uint8Array(CELLS * CELLS)
  scene.objects.forEach((object, i) => {
    for (const part of shapeParts(object)) fillPolygon(cover, part.outline, i + 1)
  })
  return Uint8Array.from({ length: PATCHES ** 2 }, (_, patch) => labelOf(cover, patch))
}

/** Marks with `value` the sample points (every second pixel) inside a polygon, line by line. */
function fillPolygon(cover: Uint8Array, outline: readonly Point[], value: number): void {
  const ys = outline.map(([, y]) => y)
  const last = Math.min(CELLS - 1, Math.floor(Math.max(...ys) / STEP))
  for (let line = Math.max(0, Math.floor(Math.min(...ys) / STEP)); line <= last; line++) {
    const crossings = crossingsAt(outline, (line + 0.5) * STEP)
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i]! / STEP - 0.5))
      const to = Math.min(CELLS, Math.ceil(crossings[i + 1]! / STEP - 0.5))
      cover.fill(value, line * CELLS + from, Math.max(line * CELLS + from, line * CELLS + to))
    }
  }
}

function crossingsAt(outline: readonly Point[], y: number): number[] {
  const crossings = outline.flatMap(([x1, y1], i) => {
    const [x2, y2] = outline[(i + 1) % outline.length]!
    return y1 <= y === y2 <= y ? [] : [x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)]
  })
  return crossings.sort((a, b) => a - b)
}

function labelOf(cover: Uint8Array, patch: number): number {
  const perPatch = PATCH / STEP
  const start = Math.floor(patch / PATCHES) * perPatch * CELLS + (patch % PATCHES) * perPatch
  const counts = [0, 0, 0, 0]
  for (let y = 0; y < perPatch; y++) {
    for (let x = 0; x < perPatch; x++) {
      const value = cover[start + y * CELLS + x]!
      counts[value] = counts[value]! + 1
    }
  }
  const objects = counts.slice(1)
  const most = Math.max(...objects)
  return most >= 0.08 * perPatch ** 2 ? objects.indexOf(most) + 1 : 0
}
