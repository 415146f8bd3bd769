import { keys } from '../edge/contract/keys.ts'
import type { ModelSummary } from '../edge/contract/model.ts'
import { announceModelMs, type ServedModel } from '../edge/contract/served-model.ts'
import type { ObjectStore } from '../infra/store/store.ts'
import { pause } from '../infra/stream/backoff.ts'

export interface AnnounceModelOptions {
  store: Pick<ObjectStore, 'put'>
  /** The model as it is served now. */
  model(): ModelSummary
  /** Told once of an outage, however long it is. */
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Default `announceModelMs`. */
  everyMs?: number
  /** Waits between two turns; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
  /** Unix ms. */
  now(): number
}

/**
 * Tells the edges through the store that this processor serves a model: at once, and again and again until it is
 * closed. A store that is away is tried again at the next turn.
 */
export function announceModel(options: AnnounceModelOptions): { close(): Promise<void> } {
  const { store, model, log, everyMs = announceModelMs, sleep = pause, now } = options
  const closing = new AbortController()
  const announce = async () => {
    const served: ServedModel = { model: model(), seenAt: now() }
    await store.put(keys.model(served.model.id), JSON.stringify(served), { contentType: 'application/json' })
  }
  const running = (async () => {
    for (let wasAway = false; !closing.signal.aborted; ) {
      const err = await announce().then(
        () => undefined,
        (error: unknown) => error,
      )
      const isAway = err !== undefined
      if (isAway && !wasAway) log.warn({ err }, 'the served model could not be announced; it is tried again')
      wasAway = isAway
      await sleep(everyMs, closing.signal)
    }
  })()
  return {
    close() {
      closing.abort()
      return running
    },
  }
}
