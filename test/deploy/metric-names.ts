import { createEdgeMetrics } from '../../edge/metrics.ts'
import { createMetrics } from '../../infra/telemetry/metrics.ts'
import { measurePlanner } from '../../processor/batches/planner/planner.ts'
import { watchDeadLetters } from '../../processor/delivery/dead-letters.ts'
import { FleetWatch, measureFleet } from '../../processor/fleet/load.ts'
import { measureBatches } from '../../processor/jobs/batch.ts'
import { measurePipeline } from '../../processor/pipeline/metrics.ts'
import type { Pipeline } from '../../processor/pipeline/pipeline.ts'
import { measureSweeps } from '../../processor/sweeper/sweeper.ts'

/** Names of all time series that the service's processes can have, those of histograms included. */
export async function registeredMetrics(): Promise<Set<string>> {
  const metrics = createMetrics()
  createEdgeMetrics(metrics)
  measureBatches(metrics)
  measurePlanner(metrics).watch({ activeBatches: 0, backlogs: [] }, Date.now)
  measureSweeps(metrics)
  measurePipeline(metrics).watch(idlePipeline)
  measureFleet(metrics, () => [idleFleet])
  watchDeadLetters({ metrics, log: { error() {} } })
  const types = [...(await metrics.render()).matchAll(/^# TYPE (\S+) (\S+)$/gm)]
  const series = types.flatMap(([, name, type]) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name!],
  )
  return new Set(series)
}

/** Names of metrics in an expression of PromQL. */
export function metricsIn(expression: string): string[] {
  const withoutTexts = expression.replaceAll(/"[^"]*"/g, '""')
  return withoutTexts.match(/\b(turbine|process|nodejs)_\w+/g) ?? []
}

const idleFleet = Object.create(FleetWatch.prototype, {
  model: { value: '' },
  desired: { value: () => undefined },
  replicas: { value: () => undefined },
  lag: { value: () => undefined },
}) as FleetWatch

const zero = () => 0
const idlePipeline = {
  model: '',
  devices: [] as string[],
  throughput: 0,
  costs: { relativeError: 0 },
  executor: { waiting: zero, age: zero, level: zero, arrivalRate: zero },
  decoders: { count: zero },
} as unknown as Pipeline
