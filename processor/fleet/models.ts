import { keys } from '../../edge/contract/keys.ts'
import { announceModelMs, type ModelSummary, type ServedModel } from '../../edge/contract/model.ts'
import { putJson } from '../../infra/store/json.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { type RepeatOptions, repeat } from '../../infra/timing.ts'

export interface AnnounceModelOptions extends Pick<RepeatOptions, 'log' | 'sleep'> {
  store: Pick<ObjectStore, 'put'>
  model(): ModelSummary
  /** Images per second of this processor without pruning. */
  throughput(): number
  /** Its jobs are in topics of its own; default: in those that are shared. */
  ownTopics?: boolean
  /** Default `announceModelMs`. */
  everyMs?: number
  /** Unix ms. */
  now(): number
}

/**
 * Announces periodically to the edges, through the store, that this processor serves a model.
 */
export function announceModel(options: AnnounceModelOptions): { close(): Promise<void> } {
  const { store, model, throughput, ownTopics, log, everyMs = announceModelMs, sleep, now } = options
  const announce = () => {
    const served: ServedModel = { model: model(), throughput: throughput(), ownTopics, seenAt: now() }
    return putJson(store, keys.model(served.model.id), served)
  }
  return repeat(announce, {
    everyMs,
    failure: 'announcing the served model failed, retrying',
    log,
    sleep,
  })
}
