import type { Captioned, Captioner, CaptionTask } from '../pipeline/captioner.ts'

export interface FakeCaptionerOptions extends Pick<Captioner, 'can' | 'byDefault' | 'unhonoured'> {
  model?: string
  concurrency?: number
  /** Sees every task. */
  onTask?(task: CaptionTask): void
  /** Receives the image's bytes as text; returns an error to throw. */
  fail?(image: string): unknown
}

/** A captioner for tests: the caption of an image is `caption of <its bytes as text>`. */
export class FakeCaptioner implements Captioner {
  readonly model: string
  readonly concurrency: number
  readonly can: Captioner['can']
  readonly byDefault: Captioner['byDefault']
  readonly unhonoured: Captioner['unhonoured']
  closed = false
  readonly #options: FakeCaptionerOptions

  constructor(options: FakeCaptionerOptions = {}) {
    this.#options = options
    this.model = options.model ?? 'fake'
    this.concurrency = options.concurrency ?? 4
    this.can = options.can
    this.byDefault = options.byDefault
    this.unhonoured = options.unhonoured
  }

  async caption(task: CaptionTask): Promise<Captioned> {
    const image = Buffer.from(task.image).toString('utf8')
    this.#options.onTask?.(task)
    await new Promise((resolve) => setImmediate(resolve))
    const error = this.#options.fail?.(image)
    if (error !== undefined) throw error
    return {
      caption: `caption of ${image}`,
      finish_reason: 'stop',
      turbine: {
        prune_level: 1,
        prune_ratio: 0.5,
        tokens_in: 197,
        tokens_out: 99,
        output_tokens: 4,
        queue_ms: 1.52,
        inference_ms: 12.34,
        model: this.model,
      },
    }
  }

  async close(): Promise<void> {
    this.closed = true
  }
}
