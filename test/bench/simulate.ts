import { seededRandom } from '../../infra/starter-model/random.ts'
import { capacityOf, readDeviceCosts } from '../../processor/simulator/device-costs.ts'
import type { Policy } from '../../processor/simulator/policies.ts'
import { simulate } from '../../processor/simulator/simulate.ts'
import { summaryTable } from '../../processor/simulator/summary-table.ts'
import { diurnal, poissonArrivals } from '../../processor/simulator/traces.ts'
import { printResult } from './measure.ts'

/** The busiest time is ten times the quietest, so the mean of the day is 5.5 times. */
const factor = 10
const meanOverQuietest = (1 + factor) / 2
const busiestShare = 0.8

/**
 * Measures the simulator on a day of a million requests on a hundred processors, whose busiest time only pruning
 * can serve: the bar is a minute on one core.
 */
export async function benchSimulate({
  images,
  gpus = 100,
}: {
  images: number
  gpus?: number
}): Promise<void> {
  const costs = await readDeviceCosts('starter-cpu')
  const perSecond = (busiestShare * gpus * capacityOf(costs).pruned) / factor
  const durationMs = (1000 * images) / (perSecond * meanOverQuietest)
  const arrivals = poissonArrivals(diurnal({ perSecond, factor, durationMs }), seededRandom(1))
  const policies: Policy[] = [
    { name: 'adaptive', autoscale: true },
    { name: 'full', level: 0, autoscale: false },
  ]
  const timed = policies.map((policy) => {
    const start = performance.now()
    const report = simulate({ arrivals, durationMs, costs, policy, fleet: { replicas: gpus } })
    return { report, seconds: (performance.now() - start) / 1000 }
  })
  console.log(summaryTable(timed.map(({ report }) => report)))
  for (const { report, seconds } of timed)
    console.log(`${report.policy}: ${report.requests} requests in ${seconds.toFixed(1)} s`)
  const [adaptive, full] = timed
  printResult('simulate', {
    requests: arrivals.length,
    gpus,
    seconds_adaptive: adaptive!.seconds,
    seconds_full: full!.seconds,
    resident_mb: process.memoryUsage().rss / 1e6,
  })
}
