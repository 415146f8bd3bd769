import { TurbineError } from './errors.ts'

const unitSeconds = { m: 60, h: 3600, d: 86_400 }
const leastSeconds = 60
const mostSeconds = 30 * 86_400

/**
 * A batch's `completion_window` in seconds.
 * @throws TurbineError `completion_window_invalid` unless it is from 1 minute to 30 days
 *
 * @example parseCompletionWindow('24h') // 86_400
 */
export function parseCompletionWindow(text: string): number {
  const [, count, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? []
  const seconds = Number(count) * unitSeconds[unit as keyof typeof unitSeconds]
  if (seconds >= leastSeconds && seconds <= mostSeconds) return seconds
  throw new TurbineError(
    `"completion_window" must be from 1 minute to 30 days, as "15m", "24h" or "3d", but ${JSON.stringify(text.slice(0, 40))} came.`,
    { status: 400, code: 'completion_window_invalid', param: 'completion_window' },
  )
}
