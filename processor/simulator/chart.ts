import type { ChartSpec } from '../../infra/plot/svg.ts'
import type { SeriesPoint, SimulationReport } from './report.ts'

type Curve = Exclude<keyof SeriesPoint, 'second'>

/** Rows of the chart, and their curves by their names in the legend. */
const rows: { title: string; curves: Partial<Record<Curve, string>> }[] = [
  { title: 'arrivals per second', curves: { arrivalsPerSecond: 'arrivals' } },
  { title: 'latency, ms', curves: { p50Ms: 'p50', p99Ms: 'p99' } },
  { title: 'prune level, mean', curves: { meanLevel: 'level' } },
  { title: 'replicas that serve', curves: { replicas: 'replicas' } },
]

/** Arrivals, latency, level and replicas over time, a column for each policy. Axes of a row are the same. */
export function simulationChart(reports: readonly SimulationReport[]): ChartSpec {
  const policies = reports.map(({ policy }) => policy)
  return {
    background: 'white',
    vconcat: rows.map(({ title, curves }) => ({
      data: { values: reports.flatMap((report) => pointsOf(report, curves)) },
      mark: { type: 'line', strokeWidth: 1.2 },
      width: 180,
      height: 90,
      encoding: {
        column: { field: 'policy', type: 'nominal', sort: policies, title: null },
        x: { field: 'second', type: 'quantitative', title: 'seconds' },
        y: { field: 'value', type: 'quantitative', title },
        color: { field: 'curve', type: 'nominal', title: null },
      },
    })),
    resolve: { scale: { color: 'independent' } },
  }
}

function pointsOf({ policy, series }: SimulationReport, curves: Partial<Record<Curve, string>>) {
  return Object.entries(curves).flatMap(([field, curve]) =>
    series.map((point) => {
      const value = point[field as Curve]
      // Where nothing was answered there is no latency: the line has a gap.
      return { policy, second: point.second, curve, value: Number.isNaN(value) ? null : value }
    }),
  )
}
