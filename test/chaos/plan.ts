import { type Random, seededRandom } from '../../infra/starter-model/random.ts'

export type Role = 'edge' | 'planner' | 'processor'
export type Server = 'kafka' | 's3'

/**
 * What is done to a part of the fleet. `kill` is SIGKILL and `stop` is SIGTERM, both with a start later; `freeze` is
 * SIGSTOP, with SIGCONT later; `delay`, `cut` and `silence` are done to the connections by a proxy; `fill` fills the
 * disk of the object store.
 */
export type Action = 'kill' | 'stop' | 'freeze' | 'delay' | 'cut' | 'silence' | 'fill'

interface Kind {
  action: Action
  target: Role | Server
  /** How long it lasts, ms, from and to. */
  lasts: readonly [number, number]
  /**
   * For so long after its end callers may still notice it, ms: clients reconnect, partitions find a new owner. 0 is for
   * what no caller may notice at all.
   */
  graceMs: number
}

/** A fault of the plan. */
export interface Fault extends Pick<Kind, 'action' | 'target' | 'graceMs'> {
  /** From the begin of the storm, ms. */
  atMs: number
  forMs: number
  /** Which one of the processes of a role, from 0. */
  index: number
}

/** An attack of the hostile tenant. */
export interface Hostility {
  atMs: number
  forMs: number
  name: string
}

export interface Plan {
  seed: number
  stormMs: number
  faults: Fault[]
  hostilities: Hostility[]
}

export interface PlanOptions {
  seed: number
  /** How long the storm is, ms. */
  stormMs: number
  /** How many processes of each role there are. */
  roles: Record<Role, number>
  /** Leaves no time to measure honest callers in: the next fault comes before all have recovered from the last. */
  hurried?: boolean
  /** What can be done to the servers here: those of others cannot be stopped. */
  can(action: Action, target: Role | Server): boolean
  /** Names of the attacks that the hostile tenant knows. */
  hostile: readonly string[]
}

const second = 1000
/** A consumer loses its partitions after 10 s without a heartbeat, and its records are delivered again then. */
const sessionMs = 10 * second
/** Clients of Kafka and of the store try again after at most 10 s. */
const reconnectMs = 15 * second

const kinds: readonly Kind[] = [
  { action: 'kill', target: 'processor', lasts: [1000, 4000], graceMs: sessionMs + 5 * second },
  { action: 'stop', target: 'processor', lasts: [1000, 4000], graceMs: 5 * second },
  { action: 'freeze', target: 'processor', lasts: [3000, 15_000], graceMs: sessionMs + 5 * second },
  { action: 'kill', target: 'edge', lasts: [1000, 4000], graceMs: 5 * second },
  { action: 'stop', target: 'edge', lasts: [1000, 4000], graceMs: 5 * second },
  { action: 'kill', target: 'planner', lasts: [1000, 8000], graceMs: 0 },
  { action: 'stop', target: 'planner', lasts: [1000, 8000], graceMs: 0 },
  { action: 'freeze', target: 'planner', lasts: [3000, 20_000], graceMs: 0 },
  { action: 'kill', target: 'kafka', lasts: [1000, 8000], graceMs: reconnectMs },
  { action: 'stop', target: 'kafka', lasts: [1000, 8000], graceMs: reconnectMs },
  { action: 'freeze', target: 'kafka', lasts: [2000, 12_000], graceMs: reconnectMs },
  { action: 'delay', target: 'kafka', lasts: [4000, 12_000], graceMs: 3 * second },
  { action: 'cut', target: 'kafka', lasts: [100, 6000], graceMs: reconnectMs },
  { action: 'silence', target: 'kafka', lasts: [2000, 12_000], graceMs: reconnectMs },
  { action: 'kill', target: 's3', lasts: [1000, 8000], graceMs: reconnectMs },
  { action: 'stop', target: 's3', lasts: [1000, 8000], graceMs: reconnectMs },
  { action: 'freeze', target: 's3', lasts: [2000, 12_000], graceMs: reconnectMs },
  { action: 'delay', target: 's3', lasts: [4000, 12_000], graceMs: 3 * second },
  { action: 'cut', target: 's3', lasts: [100, 6000], graceMs: reconnectMs },
  { action: 'silence', target: 's3', lasts: [2000, 12_000], graceMs: reconnectMs },
  { action: 'fill', target: 's3', lasts: [2000, 8000], graceMs: reconnectMs },
]

/** Between two windows honest callers are measured for at least so long, ms. */
const quietMs = 12 * second
/** Between the end of a fault and the begin of the next one in a hurry, ms. */
const hurryMs = 2 * second
/** Share of the faults that come with one of a role while they last. */
const companyShare = 0.4
/** An attack lasts so long, and the next one begins so long after its begin, ms, from and to. */
const attackLasts: readonly [number, number] = [3000, 8000]
const attackEvery: readonly [number, number] = [3000, 7000]

/**
 * Draws what happens in a storm. The same options give the same plan. Faults that callers may notice come one after the
 * other, each with a quiet time behind it; those of planners come at any time, and some come with a fault of a role
 * while they last. Every kind is drawn once before one is drawn again.
 */
export function planStorm({ seed, stormMs, roles, can, hostile, hurried }: PlanOptions): Plan {
  const random = seededRandom(seed, 1)
  const pauseMs = hurried ? hurryMs : quietMs
  const windowEnd = (fault: Fault) => (hurried ? faultEnd(fault) : graceEnd(fault))
  const overlap = (a: Fault, b: Fault) => a.atMs <= windowEnd(b) && b.atMs <= windowEnd(a)
  const possible = kinds.filter(({ action, target }) => can(action, target))
  const faultOf = (kind: Kind, atMs: number): Fault => ({
    atMs: Math.round(atMs),
    forMs: Math.round(between(random, kind.lasts)),
    action: kind.action,
    target: kind.target,
    index: isRole(kind.target) ? Math.floor(random() * roles[kind.target]) : 0,
    graceMs: kind.graceMs,
  })
  const noticed = deck(
    random,
    possible.filter(({ graceMs }) => graceMs > 0),
  )
  const unnoticed = deck(
    random,
    possible.filter(({ graceMs }) => graceMs === 0),
  )
  const company = deck(
    random,
    possible.filter(({ target }) => isRole(target)),
  )
  const faults: Fault[] = []
  for (let atMs = pauseMs / 2; ; ) {
    const fault = noticed && faultOf(noticed(), atMs)
    if (!fault || windowEnd(fault) > stormMs) break
    faults.push(fault)
    if (company && random() < companyShare) {
      const other = faultOf(company(), atMs + random() * fault.forMs)
      if (windowEnd(other) <= stormMs && other.target !== fault.target) faults.push(other)
    }
    atMs = Math.max(...faults.map(windowEnd)) + pauseMs
  }
  for (let atMs = pauseMs; unnoticed; ) {
    const fault = faultOf(unnoticed(), atMs)
    if (windowEnd(fault) > stormMs) break
    const busy = faults.some((other) => other.target === fault.target && overlap(other, fault))
    if (!busy) faults.push(fault)
    atMs = windowEnd(fault) + between(random, [pauseMs, 3 * pauseMs])
  }
  faults.sort((a, b) => a.atMs - b.atMs)
  return { seed, stormMs, faults, hostilities: planHostilities(seededRandom(seed, 2), stormMs, hostile) }
}

function planHostilities(random: Random, stormMs: number, names: readonly string[]): Hostility[] {
  const next = deck(random, names)
  const hostilities: Hostility[] = []
  for (let atMs = between(random, [0, 2000]); next && atMs < stormMs; atMs += between(random, attackEvery))
    hostilities.push({
      atMs: Math.round(atMs),
      forMs: Math.round(between(random, attackLasts)),
      name: next(),
    })
  return hostilities
}

/** A plan as lines of text. */
export function describePlan({ seed, stormMs, faults, hostilities }: Plan): string {
  const lines = faults.map((fault) => `  ${clock(fault.atMs)}  ${describeFault(fault)}`)
  const hostile = [...Map.groupBy(hostilities, ({ name }) => name)].map(
    ([name, { length }]) => `${name} ${length}`,
  )
  return [
    `seed ${seed}: a storm of ${Math.round(stormMs / 1000)} s with ${faults.length} faults and ${hostilities.length} attacks`,
    ...lines,
    `  attacks: ${hostile.join(', ')}`,
  ].join('\n')
}

/** E.g. `kill processor-1 for 2.1 s`. */
export const describeFault = ({ action, target, index, forMs }: Fault) =>
  `${action} ${isRole(target) ? `${target}-${index}` : target} for ${(forMs / 1000).toFixed(1)} s`

/** `1:05` */
export const clock = (ms: number) =>
  `${Math.floor(ms / 60_000)}:${String(Math.floor((ms / 1000) % 60)).padStart(2, '0')}`

export const isRole = (target: Role | Server): target is Role => target !== 'kafka' && target !== 's3'

const faultEnd = ({ atMs, forMs }: Fault) => atMs + forMs

/** When callers notice it no longer, as planned. */
const graceEnd = ({ atMs, forMs, graceMs }: Fault) => atMs + forMs + graceMs

const between = (random: Random, [from, to]: readonly [number, number]) => from + (to - from) * random()

/** Draws without putting back, and shuffles again when all have been drawn; undefined when there are none. */
function deck<T>(random: Random, cards: readonly T[]): (() => T) | undefined {
  let left: T[] = []
  if (cards.length === 0) return undefined
  return () => {
    if (left.length === 0) left = [...cards]
    return left.splice(Math.floor(random() * left.length), 1)[0]!
  }
}
