import { median, speedup } from '../measure.ts'
import type { Peer, PeerAnswer, PeerRequest } from './process.ts'
import type { Given, Side } from './sides.ts'

/** Answers of all rounds by side, of each batch size. */
export type Answers = Record<number, Record<string, PeerAnswer[]>>

export interface Compared {
  answers: Answers
  /** MB. */
  peaks: Record<string, number>
  versions: Record<string, Peer['versions']>
}

/** One turn of a round: its name, the process that it asks, and what. */
export type Turn = [name: string, side: string, request: PeerRequest]

/** Those that were asked for by name; none or `all`: all of them. */
export function chooseSides(sides: Record<string, Side>, names: string[]): Record<string, Side> {
  return Object.fromEntries(
    Object.entries(sides).filter(
      ([name]) => names.length === 0 || names.includes('all') || names.includes(name),
    ),
  )
}

/** Opens them one after the other; why one is not there goes into `skipped`. */
export async function openAll(
  sides: Record<string, Side>,
  given: Given,
  skipped: Record<string, string>,
): Promise<Record<string, Peer>> {
  const peers: Record<string, Peer> = {}
  for (const [name, side] of Object.entries(sides))
    try {
      peers[name] = await side.open(given)
    } catch (error) {
      skipped[name] = (error as Error).message
    }
  return peers
}

/** Pause before each turn, so that the threads of the side before have gone to sleep. */
const betweenMs = 30

export interface CompareOptions {
  batches: number[]
  rounds: number
  /** Why sides do not take part; those that fail on the way are added, and no longer asked. */
  skipped: Record<string, string>
}

/**
 * Rounds in which every turn is taken; one round before the first is not counted.
 *
 * @param turns of a batch size
 */
export async function compare(
  title: string,
  peers: Record<string, Peer>,
  turns: (batch: number) => Turn[],
  { batches, rounds, skipped }: CompareOptions,
): Promise<Compared> {
  const answers: Answers = {}
  const peaks: Record<string, number> = {}
  for (const batch of batches) {
    const ofBatch: Record<string, PeerAnswer[]> = {}
    for (let round = -1; round < rounds; round++)
      for (const [name, side, request] of turns(batch)) {
        if (side in skipped) continue
        await new Promise((resolve) => setTimeout(resolve, betweenMs))
        try {
          const answer = await peers[side]!.ask(request)
          peaks[side] = answer.peak_rss_mb
          if (round >= 0) ofBatch[name] = [...(ofBatch[name] ?? []), answer]
        } catch (error) {
          skipped[side] = (error as Error).message
        }
      }
    for (const [name, side] of turns(batch)) if (side in skipped) delete ofBatch[name]
    answers[batch] = ofBatch
    printTable(`${title}, batch ${batch}`, ofBatch, batch)
  }
  const versions = Object.fromEntries(Object.entries(peers).map(([name, { versions }]) => [name, versions]))
  return { answers, peaks, versions }
}

export async function closeAll(peers: Record<string, Peer>): Promise<void> {
  for (const peer of Object.values(peers)) await peer.close()
}

function printTable(title: string, answers: Record<string, PeerAnswer[]>, batch: number): void {
  console.log(`\n${title}`)
  const line = (cells: string[]) =>
    cells.map((cell, at) => (at ? cell.padStart(16) : cell.padEnd(22))).join('')
  console.log(line(['', 'ms a batch', 'images/s', 'CPU ms an image', 'peak MB']))
  for (const [name, list] of Object.entries(answers)) {
    const ms = median(list.map((each) => each.ms))
    const cpu = median(list.map((each) => each.cpu_ms)) / batch
    const cells = [ms, (1000 * batch) / ms, cpu, list.at(-1)!.peak_rss_mb]
    console.log(line([name, ...cells.map((cell) => (cell >= 1000 ? cell.toFixed(0) : cell.toPrecision(3)))]))
  }
}

/** A number of every side and batch size, per image, the median of the rounds. */
export function perImage(
  answers: Answers,
  of: (answer: PeerAnswer) => number,
): Record<string, Record<number, number>> {
  const table: Record<string, Record<number, number>> = {}
  for (const [batch, sides] of Object.entries(answers))
    for (const [side, list] of Object.entries(sides))
      table[side] = { ...table[side], [batch]: median(list.map(of)) / Number(batch) }
  return table
}

/** Images/s by side and batch size. */
export const ratesOf = (answers: Answers) =>
  Object.fromEntries(
    Object.entries(perImage(answers, ({ ms }) => ms)).map(([side, list]) => [
      side,
      Object.fromEntries(Object.entries(list).map(([batch, ms]) => [batch, 1000 / ms])) as Record<
        number,
        number
      >,
    ]),
  )

/** How many times as fast `side` is as `over`; null where one of them is not there. */
export function ratioOf(answers: Record<string, PeerAnswer[]>, over?: string, side?: string): number | null {
  const [base, other] = [over && answers[over], side && answers[side]]
  if (!base || !other) return null
  const ms = (list: PeerAnswer[]) => list.map((answer) => answer.ms)
  return speedup(ms(base), ms(other))
}

/** The fastest of some sides at a batch size; undefined where none took part. */
export function fastest(
  rates: Record<string, Record<number, number>>,
  batch: number,
  names: string[],
): string | undefined {
  return names.filter((name) => rates[name]).sort((a, b) => rates[b]![batch]! - rates[a]![batch]!)[0]
}

/** Captions of each side that are not those of `base`, in its last round. */
export function differing(answers: Record<string, PeerAnswer[]>, base: string): Record<string, number> {
  const expected = answers[base]?.at(-1)?.ids
  if (!expected) return {}
  return Object.fromEntries(
    Object.entries(answers).map(([name, list]) => [
      name,
      list.at(-1)!.ids.filter((ids, row) => ids.join() !== expected[row]!.join()).length,
    ]),
  )
}
