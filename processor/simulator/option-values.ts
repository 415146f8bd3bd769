import { InvalidArgumentError } from 'commander'
import type { FleetOptions } from './fleet-options.ts'

/** Parsers of option values for commander. */

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `500ms`, `20s`, `1.5m`, `2h` or `1d` in ms. */
export function duration(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? []
  if (count === undefined)
    throw new InvalidArgumentError('It must be a duration such as 500ms, 20s, 5m, 2h or 1d.')
  return Number(count) * unitMs[unit as keyof typeof unitMs]
}

/** `20s` for 20,000 ms, as `duration` parses it: in the largest unit that makes it whole. */
export function durationText(ms: number): string {
  const whole = Object.entries(unitMs).findLast(([, each]) => ms >= each && ms % each === 0)
  return whole ? `${ms / whole[1]}${whole[0]}` : `${ms}ms`
}

/** `0.05x3`: 5 % of the replicas are 3 times slower. */
export function stragglers(text: string): Pick<FleetOptions, 'stragglers' | 'stragglerFactor'> {
  const [, share, factor] = /^([\d.]+)x([\d.]+)$/.exec(text) ?? []
  const value = { stragglers: Number(share), stragglerFactor: Number(factor) }
  if (value.stragglers <= 1 && value.stragglerFactor >= 1) return value
  throw new InvalidArgumentError('It must be a share and a factor such as 0.05x3.')
}
