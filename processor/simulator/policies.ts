import type { Level } from '../scheduling/level.ts'
import { SimulationInputError } from './errors.ts'

/** Policy of a fleet under load. */
export interface Policy {
  name: string
  /** Every image is run at this level, as far as it allows it; absent: the load decides. */
  level?: number
  /** True when replicas come and go with the load. */
  autoscale: boolean
}

const named: Policy[] = [
  { name: 'adaptive', autoscale: true },
  { name: 'adaptive-fixed-fleet', autoscale: false },
  { name: 'autoscale-full', level: 0, autoscale: true },
  { name: 'full', level: 0, autoscale: false },
]

/** Syntax of policies, for help. */
export const policySyntax = [...named.map(({ name }) => name), 'level:N', 'all'].join(' | ')

/**
 * The policies that a comma list names. `all` are all named ones and, in a fixed fleet, every level.
 * @throws SimulationInputError
 * @example parsePolicies('adaptive,level:3', levels)
 */
export function parsePolicies(text: string, levels: readonly Level[]): Policy[] {
  const policies = text.split(',').flatMap((name) => parsePolicy(name.trim(), levels))
  return [...new Map(policies.map((policy) => [policy.name, policy])).values()]
}

function parsePolicy(name: string, levels: readonly Level[]): Policy[] {
  if (name === 'all') return [...named, ...levels.slice(1).map((_, i) => pinned(i + 1))]
  const known = named.find((policy) => policy.name === name)
  if (known) return [known]
  const level = Number(/^level:(\d+)$/.exec(name)?.[1] ?? Number.NaN)
  if (level < levels.length) return [pinned(level)]
  throw new SimulationInputError(
    `Unknown policy "${name}": use ${policySyntax}, where N is from 0 to ${levels.length - 1}.`,
  )
}

const pinned = (level: number): Policy => ({ name: `level:${level}`, level, autoscale: false })
