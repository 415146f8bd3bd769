import { remember } from '../../infra/remembered.ts'
import { readAll } from '../../infra/store/json.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { keys } from '../contract/keys.ts'
import { type ModelSummary, modelState, type ServedModel, servedModelSchema } from '../contract/model.ts'

/** What processors have announced. */
export interface ServedModels {
  /** The models, the default one first. @throws StoreUnavailableError if no list was ever read */
  models(): Promise<ModelSummary[]>
  /** Whether jobs for a model go to topics of its own. @throws as `models` */
  ownTopics(model: string): Promise<boolean>
}

interface WarnLog {
  warn(fields: Record<string, unknown>, message: string): void
}

export interface ServedModelsOptions {
  store: ObjectStore
  /** Unix ms. */
  now(): number
  log: WarnLog
  /** Time that a list is fresh, ms; default 10,000. */
  ttlMs?: number
}

/**
 * Models of a fleet, as processors have announced them in the store, with their state: also those that none serves now.
 * Ordered by id, so that every edge has the same default, those that stopped last, the latest of them first. The last list
 * is served while it is refreshed and during an outage of the store.
 *
 * @example
 * const { models } = createServedModels({ store, now: Date.now, log })
 * const [byDefault] = await models()
 */
export function createServedModels({ store, now, log, ttlMs = 10_000 }: ServedModelsOptions): ServedModels {
  const listed = remember({ load: () => readServedModels(store, log), freshMs: () => ttlMs, now })
  return {
    async models() {
      const models = (await listed(keys.models)).map((served) => ({
        ...served,
        model: withState(served, now()),
      }))
      const [stopped, others] = [true, false].map((is) =>
        models.filter(({ model }) => (model.turbine.state === 'stopped') === is),
      )
      return [...others!, ...stopped!.toSorted((a, b) => b.seenAt - a.seenAt)].map(({ model }) => model)
    },
    async ownTopics(id) {
      return (await listed(keys.models)).some(({ model, ownTopics }) => model.id === id && ownTopics === true)
    },
  }
}

const withState = ({ model, seenAt }: ServedModel, now: number): ModelSummary => ({
  ...model,
  turbine: {
    ...model.turbine,
    state: modelState(seenAt, now),
    last_seen_at: Math.floor(seenAt / 1000),
  },
})

/** Reads the last announcement of each model, however old. @throws StoreUnavailableError */
export const readServedModels = (store: ObjectStore, log: WarnLog) =>
  readAll(store, keys.models, {
    read: (value) => servedModelSchema.parse(value),
    onDamaged: (err) => log.warn({ err }, 'a damaged announcement of a model is ignored'),
  })
