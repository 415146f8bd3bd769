import type { Holdings } from './processes.ts'

/**
 * What a process may hold after the storm beyond the most that one of its role held in the calm. Both have had the same
 * load, so that more is kept for nothing; the rest is what a runtime keeps: a few idle connections, memory that the
 * allocator has not given back.
 */
const slack: Partial<Record<keyof Holdings, (calm: number) => number>> = {
  handles: (calm) => calm + 16,
  s3Sockets: (calm) => calm + 8,
  kafkaSockets: (calm) => calm + 4,
  forgottenSockets: () => 0,
  children: (calm) => calm,
  threads: (calm) => calm + 8,
  rssMb: (calm) => 1.5 * calm + 128,
}

export interface Held {
  /** E.g. `edge-0`. */
  name: string
  /** Processes of a role are compared with each other: those that were started anew saw no calm. */
  role: string
  holdings: Holdings
}

/** The most of everything. */
export function most(all: readonly Holdings[]): Holdings {
  const fields = Object.keys(all[0]!) as (keyof Holdings)[]
  return Object.fromEntries(
    fields.map((field) => [field, Math.max(...all.map((holdings) => holdings[field]))]),
  ) as unknown as Holdings
}

/** What is held for nothing after the storm, as messages. */
export function findLeaks(calm: readonly Held[], after: readonly Held[]): string[] {
  return after.flatMap(({ name, role, holdings }) => {
    const before = most(calm.filter((held) => held.role === role).map((held) => held.holdings))
    return (Object.keys(slack) as (keyof Holdings)[]).flatMap((field) => {
      const allowed = slack[field]!(before[field])
      const has = holdings[field]
      if (has <= allowed) return []
      return `${name}: ${field} ${round(has)}, in the calm at most ${round(before[field])}, allowed ${round(allowed)}`
    })
  })
}

const round = (value: number) => Math.round(value)
