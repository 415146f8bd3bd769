import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'

/** Tells of records that were given up, in the log and as a metric. */
export function watchDeadLetters({ metrics, log }: { metrics: Metrics; log: Pick<Logger, 'error'> }) {
  const deadLetters = metrics.counter({
    name: 'dead_letters_total',
    help: 'Records that were given up and lie with the dead letters, by their topic.',
    labelNames: ['topic'],
  })
  return (err: unknown, { topic }: ConsumedRecord): void => {
    deadLetters.inc({ topic })
    log.error({ err, topic }, 'a record went to the dead letters')
  }
}
