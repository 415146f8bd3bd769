import { TurbineError } from '../contract/errors.ts'
import type { EdgeMetrics } from '../deps.ts'

type InfoLog = { info(fields: Record<string, unknown>, message: string): void }

/**
 * Metrics of a Worker: a log line per request, which Workers Logs can filter and count. Isolates are too short-lived for
 * Prometheus counters.
 */
export function requestLog(log: InfoLog): EdgeMetrics {
  return {
    observe: (sample) => log.info({ ...sample }, 'request'),
    async render() {
      throw new TurbineError(
        "An edge on Workers has no metrics: see its logs in Cloudflare's dashboard. Processors and planners have metrics.",
        { status: 404, code: 'metrics_elsewhere' },
      )
    },
    contentType: 'text/plain; charset=utf-8',
  }
}
