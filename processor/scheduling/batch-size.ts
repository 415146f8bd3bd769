import { type CostModel, worthwhileGain } from './cost-model.ts'

export interface BatchSizeOptions {
  /** Images that could ride; more than the largest bucket is fine. */
  images: number
  level: number
  /** Whether a run that takes this long is acceptable. */
  fits(ms: number, bucket: number): boolean
  /** Buckets below this one are not considered; it is the answer when none fits. Default: the smallest. */
  least?: number
}

/** The bucket that serves the most images per ms of those that fit; of buckets about as good, the smallest. */
export function batchSize(costs: CostModel, { images, level, fits, least }: BatchSizeOptions): number {
  let chosen = least ?? costs.buckets[0]!
  let chosenRate = 0
  for (const bucket of costs.buckets) {
    const ms = costs.predict(bucket, level)
    if (bucket < chosen || !fits(ms, bucket)) continue
    const rate = Math.min(images, bucket) / ms
    if (rate > chosenRate * (1 + worthwhileGain)) {
      chosen = bucket
      chosenRate = rate
    }
  }
  return chosen
}
