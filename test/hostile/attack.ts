/** A service under attack, and who attacks. */
export interface Target {
  url: string
  /** Of the hostile tenant. */
  apiKey: string
  /** Ends the attack, which then lets go of everything that it holds. */
  signal: AbortSignal
  /** Of the attack's full size, from 0 to 1; default 1. */
  share?: number
}

/** How often each thing came of what was sent: `400 invalid_json`, `no answer`. */
export type Outcomes = Record<string, number>

/** What an attack needs of the service. */
export type Need = 'private addresses' | 's3'

/** One way to hurt a service; each stands for its kind and tries as many cases of it as fit into the time. */
export interface Attack {
  title: string
  needs?: readonly Need[]
  /** Builds what takes long to build, ahead of the attack. */
  prepare?(share?: number): Promise<unknown>
  /** Runs until the signal aborts, or until nothing is left to try. Never rejects for what the service does. */
  run(target: Target): Promise<Outcomes>
}

/** `count` at full size, and at least 1. */
export const scaled = (count: number, { share = 1 }: Pick<Target, 'share'>): number =>
  Math.max(1, Math.round(count * share))

/** Counts outcomes by name. */
export function tally() {
  const outcomes: Outcomes = {}
  const count = (name: string, times = 1) => {
    outcomes[name] = (outcomes[name] ?? 0) + times
  }
  return { outcomes, count }
}

/** Runs `work` for every item, `concurrency` at a time, until the signal aborts. */
export async function each<T>(
  items: Iterable<T>,
  { concurrency, signal }: { concurrency: number; signal: AbortSignal },
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const left = items[Symbol.iterator]()
  const worker = async () => {
    for (let item = left.next(); !item.done && !signal.aborted; item = left.next()) await work(item.value)
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
}

/** The items again and again. */
export function* forever<T>(items: readonly T[]): Generator<T> {
  for (;;) yield* items
}

/** Resolves when the signal aborts. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
