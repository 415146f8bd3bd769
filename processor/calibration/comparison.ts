import type { LevelQuality } from '../models/levels.ts'
import { perLayer, type Schedule } from '../turbo/schedule.ts'
import { type Agreement, agreementWith } from './agreement.ts'
import type { PictureBatch } from './pictures.ts'

export interface ComparisonOptions<B> {
  /** The pictures, all batches but the last one full. */
  batches: readonly B[]
  /** Layers of the encoder. */
  layers: number
  /** Captions of a batch with a schedule. */
  caption(batch: B, schedule: Schedule): Promise<string[]>
  /** How captions are compared with the unpruned ones. Default: as sentences. */
  agreement?(unpruned: readonly string[]): Agreement
}

/**
 * Makes a function that compares a schedule's captions with the unpruned ones on the first `pictures`. It captions whole
 * batches; `caption` may cache them.
 */
export function comparison<B extends Pick<PictureBatch, 'count'>>({
  batches,
  layers,
  caption,
  agreement: agreementOf = agreementWith,
}: ComparisonOptions<B>): (schedule: Schedule, pictures: number) => Promise<LevelQuality> {
  const none = perLayer(0, layers)
  const agreements = new Map<number, Agreement>()
  const captions = async (schedule: Schedule, pictures: number) => {
    const all: string[] = []
    for (const batch of batches) {
      if (all.length >= pictures) break
      all.push(...(await caption(batch, schedule)))
    }
    return all.slice(0, pictures)
  }
  return async (schedule, pictures) => {
    const agreement =
      agreements.get(pictures) ?? agreementOf(await captions({ r: none, weight: none }, pictures))
    agreements.set(pictures, agreement)
    return agreement(await captions(schedule, pictures))
  }
}
