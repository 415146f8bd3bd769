import { setTimeout as wait } from 'node:timers/promises'

/** Median of a list of numbers. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The value below which `share` (0 to 1) of the list lies. */
export function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!
}

/** Threads of ONNX Runtime's defaults spin for some ms behind a run, at the cost of whoever comes next. */
const settleMs = 100

/**
 * Times several cases side by side: each round runs every case once, in turn, so that a noisy neighbour slows all of
 * them alike. Each begins when the threads of the one before have come to rest. One round before the first is not counted.
 * @returns milliseconds of every round, by case
 */
export async function interleave<Name extends string>(
  cases: Record<Name, () => Promise<unknown>>,
  rounds: number,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(cases) as Name[]
  const times = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>
  for (let round = -1; round < rounds; round++)
    for (const name of names) {
      await wait(settleMs)
      const start = performance.now()
      await cases[name]()
      if (round >= 0) times[name].push(performance.now() - start)
    }
  return times
}

/** Median over the rounds of `base / other`: how many times faster `other` is. */
export function speedup(base: number[], other: number[]): number {
  return median(base.map((time, round) => time / other[round]!))
}

/** The line that tools read: one JSON object, numbers with four significant digits. */
export function printResult(bench: string, fields: Record<string, unknown>): void {
  const short = (_: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
  console.log(JSON.stringify({ bench, ...fields }, short))
}
