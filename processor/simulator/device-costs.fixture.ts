import { type CostTable, type DeviceCosts, parseDeviceCosts } from './device-costs.ts'

/** A device of four levels: about 50 images/s unpruned, 140 at the highest level. */
export function deviceCosts(table: Partial<CostTable> = {}): DeviceCosts {
  const relative = [1, 0.75, 0.5, 0.35]
  return parseDeviceCosts(
    {
      device: 'a made-up device',
      buckets: [1, 2, 4, 8, 16],
      levels: relative.map((share, level) => ({
        pruneRatio: level * 0.25,
        exact: 1 - level * 0.01,
        ms: [1, 2, 4, 8, 16].map((images) => 5 + 20 * images * share),
      })),
      ingestMs: 3,
      decodeMs: 2,
      overheadMs: 4,
      ...table,
    },
    'the fixture',
  )
}
