import { remember } from '../../infra/remembered.ts'
import { readAll } from '../../infra/store/json.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { keys } from '../contract/keys.ts'
import { forgetModelMs, type ModelSummary, type ServedModel } from '../contract/model.ts'

export interface ServedModelsOptions {
  store: ObjectStore
  /** Unix ms. */
  now(): number
  /** How long a list counts as fresh, ms; default 10,000. */
  ttlMs?: number
}

/**
 * What the processors of a fleet serve, as they keep writing it into the store; in the order of the ids, so that
 * every edge has the same default. While one caller reads the list again the others get the old one, and through an
 * outage of the store everybody does.
 *
 * @returns a function; it rejects with StoreUnavailableError where no list was ever read
 * @example
 * const models = createServedModels({ store, now: Date.now })
 * const [byDefault] = await models()
 */
export function createServedModels({ store, now, ttlMs = 10_000 }: ServedModelsOptions) {
  const listed = remember({ load: () => readServedModels(store), freshMs: () => ttlMs, now })
  return async (): Promise<ModelSummary[]> =>
    (await listed(keys.models))
      .filter(({ seenAt }) => now() - seenAt < forgetModelMs)
      .map(({ model }) => model)
}

/**
 * What the processors last said of each model, however long ago.
 * @throws StoreUnavailableError
 */
export const readServedModels = (store: ObjectStore) => readAll<ServedModel>(store, keys.models)
