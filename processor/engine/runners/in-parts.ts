import type { RowResult } from '../batch.ts'

/** Runs rows of two kinds apart; results in the order of all. */
export async function inParts<Row>(
  rows: readonly Row[],
  is: (row: Row) => boolean,
  run: Record<'yes' | 'no', (rows: Row[]) => Promise<RowResult[]>>,
): Promise<RowResult[]> {
  const results: RowResult[] = []
  for (const kind of ['yes', 'no'] as const) {
    const places = rows.flatMap((row, at) => (is(row) === (kind === 'yes') ? [at] : []))
    if (places.length === 0) continue
    const made = await run[kind](places.map((at) => rows[at]!))
    for (const [i, at] of places.entries()) results[at] = made[i]!
  }
  return results
}
