import type { ChartSpec } from '../../infra/plot/svg.ts'
import type { LevelQuality } from '../models/levels.ts'

/** A point of the chart. */
interface ChartPoint {
  flopShare: number
  quality: LevelQuality
}

export interface LevelsChart {
  model: string
  /** Compared on the pictures that levels were chosen by. */
  candidates: readonly ChartPoint[]
  /** Level 0 first, with their quality on held-out pictures. */
  levels: readonly ChartPoint[]
}

/** Chart of candidates and levels: FLOPs of the encoder against the share of equal captions. */
export function levelsChart({ model, candidates, levels }: LevelsChart): ChartSpec {
  const point = ({ flopShare, quality }: ChartPoint) => ({
    flops: round(100 * flopShare),
    exact: round(100 * quality.exact),
  })
  const lowest = Math.min(...levels.map(({ quality }) => 100 * quality.exact))
  // Those far below the last level would flatten the part that matters.
  const floor = Math.max(0, Math.floor(lowest - (100 - lowest) / 2 - 1))
  const x = {
    field: 'flops',
    type: 'quantitative',
    title: 'FLOPs of the encoder, % of the unpruned',
    scale: { reverse: true, zero: false },
  } as const
  const y = {
    field: 'exact',
    type: 'quantitative',
    title: 'captions equal to the unpruned, %',
    scale: { domain: [floor, 100] as (string | number)[] },
  } as const
  return {
    title: `Prune levels of ${model}`,
    width: 560,
    height: 320,
    layer: [
      {
        data: { values: distinct(candidates.map(point)).filter(({ exact }) => exact >= floor) },
        mark: { type: 'circle', size: 16, color: '#9aa5b1', opacity: 0.6, aria: false },
        encoding: { x, y },
      },
      {
        data: { values: levels.map((level, i) => ({ ...point(level), level: `${i}` })) },
        layer: [
          { mark: { type: 'line', color: '#c2410c', point: { color: '#c2410c' } }, encoding: { x, y } },
          { mark: { type: 'text', dy: -10 }, encoding: { x, y, text: { field: 'level', type: 'nominal' } } },
        ],
      },
    ],
  }
}

const round = (value: number) => Math.round(10 * value) / 10

const distinct = (points: { flops: number; exact: number }[]) => [
  ...new Map(points.map((point) => [`${point.flops}/${point.exact}`, point])).values(),
]
