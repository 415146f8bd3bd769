import { hash } from 'node:crypto'
import pLimit from 'p-limit'
import { BaseError } from '../errors.ts'
import { onlyIf } from './json.ts'
import { type ObjectStore, PreconditionFailedError } from './store.ts'

/** Another process has written the object. */
export class OwnershipLostError extends BaseError {}

/**
 * Object of the store with one writer at a time: a write after another writer's is refused. A write whose response was
 * lost counts as done when the store has it.
 *
 * @example
 * const progress = new OwnedObject(store, key, etag)
 * await progress.write(() => JSON.stringify(state))
 */
export class OwnedObject {
  readonly #store: Pick<ObjectStore, 'get' | 'put'>
  readonly #key: string
  #etag: string | undefined
  /** Digests of writes without a response. */
  #unsure = new Set<string>()
  readonly #writing = pLimit(1)

  /** @param etag of the object as it was read; undefined when there must not be one yet */
  constructor(store: Pick<ObjectStore, 'get' | 'put'>, key: string, etag: string | undefined) {
    this.#store = store
    this.#key = key
    this.#etag = etag
  }

  /**
   * Writes JSON. Writes are serialised; `render` runs when the write starts.
   * @throws OwnershipLostError, StoreUnavailableError
   */
  write(render: () => string): Promise<void> {
    return this.#writing(() => this.#write(render()))
  }

  async #write(text: string): Promise<void> {
    try {
      this.#written(await this.#put(text))
    } catch (error) {
      this.#unsure.add(digest(text))
      if (!(error instanceof PreconditionFailedError)) throw error
      const current = await this.#store.get(this.#key)
      const written = current && (await new Response(current.body).text())
      if (written === undefined || !this.#unsure.has(digest(written))) throw lost(this.#key)
      this.#written(current!)
      if (written !== text) await this.#write(text)
    }
  }

  #put(text: string): Promise<{ etag: string }> {
    return this.#store.put(this.#key, text, { contentType: 'application/json', ...onlyIf(this.#etag) })
  }

  #written({ etag }: { etag: string }): void {
    this.#etag = etag
    this.#unsure.clear()
  }
}

const digest = (text: string) => hash('sha256', text)

const lost = (key: string) => new OwnershipLostError(`Another process has written "${key}".`)
