import { TurbineError } from '../contract/errors.ts'
import type { EdgeMetrics } from '../deps.ts'

type InfoLog = { info(fields: Record<string, unknown>, message: string): void }

/**
 * What a Worker measures: a line in the log for each request, which Workers Logs can filter and count. Isolates come
 * and go by the hundred, so there are no counters that one of them could show to Prometheus.
 */
export function requestLog(log: InfoLog): EdgeMetrics {
  return {
    observe: (sample) => log.info({ ...sample }, 'request'),
    async render() {
      throw new TurbineError(
        'An edge on Workers has no metrics of its own: look at its logs in the dashboard of Cloudflare. Processors and planners have theirs.',
        { status: 404, code: 'metrics_elsewhere' },
      )
    },
    contentType: 'text/plain; charset=utf-8',
  }
}
