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
  /** Captions of a batch that those of a schedule are compared with. Default: the unpruned ones. */
  reference?: ((batch: B) => Promise<string[]>) | undefined
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
  reference,
  agreement: agreementOf = agreementWith,
}: ComparisonOptions<B>): (schedule: Schedule, pictures: number) => Promise<LevelQuality> {
  const none = perLayer(0, layers)
  const unpruned = reference ?? ((batch: B) => caption(batch, { r: none, weight: none }))
  const agreements = new Map<number, Agreement>()
  const captions = async (make: (batch: B) => Promise<string[]>, pictures: number) => {
    const all: string[] = []
    for (const batch of batches) {
      if (all.length >= pictures) break
      all.push(...(await make(batch)))
    }
    return all.slice(0, pictures)
  }
  return async (schedule, pictures) => {
    const agreement = agreements.get(pictures) ?? agreementOf(await captions(unpruned, pictures))
    agreements.set(pictures, agreement)
    return agreement(await captions((batch) => caption(batch, schedule), pictures))
  }
}
