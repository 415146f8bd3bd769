import { formatCount, formatDuration, formatRate, formatTable } from '../cli/format.ts'
import type { SimulationReport } from './report.ts'

interface Column {
  name: string
  cell(report: SimulationReport): string
}

const percent = (share: number) => (100 * share).toFixed(share < 0.1 ? 2 : 1)
const ms = (value: number) => (Number.isNaN(value) ? '-' : formatCount(Math.round(value)))

const columns: Column[] = [
  { name: 'requests', cell: ({ requests }) => formatCount(requests) },
  { name: 'rejected', cell: ({ shed }) => formatCount(shed) },
  { name: 'SLO misses %', cell: ({ missShare }) => percent(missShare) },
  { name: 'p50 ms', cell: ({ p50Ms }) => ms(p50Ms) },
  { name: 'p99 ms', cell: ({ p99Ms }) => ms(p99Ms) },
  { name: 'level', cell: ({ meanLevel }) => meanLevel.toFixed(2) },
  { name: 'pruned %', cell: ({ meanPruneRatio }) => percent(meanPruneRatio) },
  {
    name: 'exact %',
    cell: ({ meanQuality }) => (meanQuality === undefined ? '-' : (100 * meanQuality).toFixed(2)),
  },
  { name: 'in time/s', cell: ({ goodput }) => formatRate(goodput) },
  { name: 'replica-hours', cell: ({ replicaHours }) => replicaHours.toFixed(3) },
  { name: 'most replicas', cell: ({ mostReplicas }) => formatCount(mostReplicas) },
]

const batchColumns: Column[] = [
  {
    name: 'batch done after',
    cell: ({ batch }) => (batch ? `${formatDuration(batch.doneAtMs)}${batch.inTime ? '' : ' (late)'}` : '-'),
  },
  { name: 'batch pruned %', cell: ({ batch }) => (batch ? percent(batch.meanPruneRatio) : '-') },
]

const failureColumns: Column[] = [{ name: 'failures', cell: ({ failures }) => formatCount(failures) }]

/** One row for each policy. */
export function summaryTable(reports: readonly SimulationReport[]): string {
  const shown = [
    ...columns,
    ...(reports.some(({ batch }) => batch) ? batchColumns : []),
    ...(reports.some(({ failures }) => failures > 0) ? failureColumns : []),
  ]
  const rows = reports.map((report) => [report.policy, ...shown.map(({ cell }) => cell(report))])
  const right = shown.map((_, column) => column + 1)
  return formatTable([['policy', ...shown.map(({ name }) => name)], ...rows], { right })
}
