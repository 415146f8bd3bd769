import type { Level } from './level.ts'

/** One measured run: `bucket` rows at a prune level took `ms`. */
export interface CostSample {
  bucket: number
  level: number
  ms: number
}

interface Point {
  x: number
  y: number
}

/**
 * Expected ms of a run for each level and batch size, `cells[level][bucket index]`: medians of the calibration runs;
 * cells without one are linear in the batch size, and linear in the relative cost of the level, through the nearest
 * measured cells. Never zero or less.
 */
export function seedCells(
  levels: readonly Level[],
  buckets: readonly number[],
  samples: readonly CostSample[],
): number[][] {
  const rows = levels.map((_, level) => {
    const points = medians(samples.filter((sample) => sample.level === level))
    return points.length > 0 ? buckets.map((bucket) => throughPoints(points, bucket)) : undefined
  })
  const column = (index: number): Point[] =>
    levels
      .flatMap(({ relativeCost }, level) => {
        const y = rows[level]?.[index]
        return y === undefined ? [] : [{ x: relativeCost, y }]
      })
      .sort((a, b) => a.x - b.x)
  return levels.map(
    ({ relativeCost }, level) =>
      rows[level] ?? buckets.map((_, index) => throughPoints(column(index), relativeCost)),
  )
}

/** One point for each batch size that was measured, ascending. */
function medians(samples: readonly CostSample[]): Point[] {
  return [...Map.groupBy(samples, ({ bucket }) => bucket)]
    .map(([x, runs]) => {
      const times = runs.map(({ ms }) => ms).sort((a, b) => a - b)
      return { x, y: times[times.length >> 1]! }
    })
    .sort((a, b) => a.x - b.x)
}

/**
 * The line through the two measured points next to `x`, or through the origin when there is only one. Beyond the
 * measured points it never falls and never cuts below the origin, so that no prediction turns zero or negative.
 */
function throughPoints(points: readonly Point[], x: number): number {
  const above = points.findIndex((point) => point.x >= x)
  const right = clamp(above < 0 ? points.length - 1 : above, 1, points.length - 1)
  const a = points[right - 1]
  const b = points[right]
  if (a === undefined || b === undefined) return (points[0]!.y / points[0]!.x) * x
  const slope = (b.y - a.y) / (b.x - a.x)
  if (x < a.x) return a.y - clamp(slope, 0, a.y / a.x) * (a.x - x)
  if (x > b.x) return b.y + Math.max(slope, 0) * (x - b.x)
  return a.y + slope * (x - a.x)
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}
