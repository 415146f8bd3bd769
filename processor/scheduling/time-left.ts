import type { DeviceBatch } from './batcher.ts'
import type { CostModel } from './cost-model.ts'

/** Steps between which rows leave and join a batch that no caller reads along with. */
export const stepsBetweenJoins = 16

/** A row that runs, of a batch that rows can join. */
export interface RowOnItsWay {
  batch: Pick<DeviceBatch<unknown>, 'bucket' | 'level' | 'images'>
  mostIds: number
  /** Ids so far; 0 while its pictures and its prompt are run. */
  ids: number
}

export interface TimeLeft {
  /** Until one more row has its share of the device, ms. */
  placeMs: number
  /** Until the last of these rows has ended, ms. */
  endMs: number
}

/**
 * Expected time of what a device runs that rows can join. One that joins waits for a place, or for the steps in hand, and shares the
 * device with those that run: with each for no longer than its own steps, however long the other's caption is.
 */
export function timeLeft(
  rows: readonly RowOnItsWay[],
  { costs, places }: { costs: CostModel; places: number },
): TimeLeft {
  if (rows.length === 0) return { placeMs: 0, endMs: 0 }
  const running = Math.min(rows.length, places)
  const bucket = costs.buckets.find((each) => each >= running)!
  const left = rows.map(({ mostIds, ids }) => Math.max(1, costs.expectedSteps([mostIds]) - ids))
  const beginning = new Set(rows.filter(({ ids }) => ids === 0).map(({ batch }) => batch))
  const firstMs = [...beginning].reduce(
    (sum, { bucket, level }) => sum + costs.predictFirst(bucket, level),
    0,
  )
  const untilPlace = rows.length < places ? stepsBetweenJoins : Math.min(...left)
  const shared = left.reduce((sum, steps) => sum + Math.min(steps, costs.usualSteps), 0) / rows.length
  return {
    placeMs: firstMs + costs.predictSteps(bucket, Math.max(untilPlace, shared)),
    endMs: firstMs + costs.predictSteps(bucket, Math.max(...left)),
  }
}
