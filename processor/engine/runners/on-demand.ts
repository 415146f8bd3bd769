import type { InferenceSession } from 'onnxruntime-node'

/** A session that is opened when it is first needed; one that could not be is tried again the next time. */
export class OnDemand {
  readonly #open: () => Promise<InferenceSession>
  #session: Promise<InferenceSession> | undefined

  constructor(open: () => Promise<InferenceSession>) {
    this.#open = open
  }

  get(): Promise<InferenceSession> {
    this.#session ??= this.#open().catch((error: unknown) => {
      this.#session = undefined
      throw error
    })
    return this.#session
  }

  async close(): Promise<void> {
    await (await this.#session)?.release()
  }
}
