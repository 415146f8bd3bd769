import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { Control, ShardJob } from '../../../edge/contract/shard.ts'
import type { Buckets, ObjectStore } from '../../../infra/store/store.ts'
import type { Clock } from '../../delivery/outages.ts'
import type { Captioned, CaptionTask } from '../../pipeline/captioner.ts'
import { faulty, type LineOutcome } from '../shard/line.ts'
import { createShardRepayer, type RepayJob, type ShardRepayer } from '../shard/repay.ts'
import { outputLine, resultIds } from '../shard/result-lines.ts'
import { writeShard } from '../shard/results.ts'
import { encodeResults, linesOf } from '../shard/runner.ts'
import { gif } from '../shard/shard.fixture.ts'
import { duplicateFault } from './plan.ts'

/** Processors that caption every image as a cat, for tests of planners. */
export class TestProcessors {
  /** Lines that were run, by `custom_id`: how often. */
  readonly runs = new Map<string, number>()
  /** Whether a line is pruned when it is run. */
  prunes: (customId: string) => boolean = () => true
  /** Whether there is no device for lines that are to be captioned again. */
  busy = false
  /** Lines whose image cannot be had a second time, by `custom_id`. */
  readonly goneImages = new Set<string>()
  readonly #store: ObjectStore
  readonly #buckets: Buckets
  readonly #repayShard: ShardRepayer
  /** Lines of a shard that are done when its batch is cancelled. */
  linesInHand = 0

  constructor(store: ObjectStore, clock: Clock, buckets: Buckets) {
    this.#store = store
    this.#buckets = buckets
    this.#repayShard = createShardRepayer({
      store,
      now: () => clock.now(),
      sleep: (ms, signal) => clock.sleep(ms, signal),
      images: async (url) => this.#imageAgain(url),
      captioner: {
        model: 'm',
        concurrency: 64,
        caption: async (task) => this.#captionAgain(task),
        close: async () => {},
      },
    })
  }

  /** Does a shard; what the planner is told of it. */
  async handle(job: ShardJob): Promise<Control | undefined> {
    const { tenant, batch, shard } = job
    const cancelled = (await this.#store.head(keys.batchCancel(tenant, batch))) !== undefined
    if (cancelled && this.linesInHand === 0) return undefined
    if (job.repay) {
      const repaid = await this.#repayShard(job as RepayJob, new AbortController().signal)
      const { tally, pending = 0 } = repaid ?? {}
      return tally && { type: 'shard_repaid', tenant, batch, shard, tally, pending }
    }
    const lines = await linesOf(job, { store: this.#store, buckets: this.#buckets })
    const run = cancelled ? lines.slice(0, this.linesInHand) : lines
    const results = encodeResults(run.map((line) => this.#run(job, line)))
    const tally = await writeShard(this.#store, job, results)
    return { type: 'shard_done', tenant, batch, shard, tally }
  }

  #run(job: ShardJob, line: ManifestLine): LineOutcome | undefined {
    const read = parseBatchLine(line, job)
    if (read === undefined) return undefined
    if ('fault' in read) return faulty(job, line, read.fault)
    const { customId } = read.ask
    if (job.duplicates.includes(line.number)) return faulty(job, line, duplicateFault(customId))
    const { id, requestId } = resultIds(job.batch, line.number)
    const captioned = this.#caption(customId, this.prunes(customId) ? 1 : 0)
    const body = { turbine: captioned.turbine }
    return { text: outputLine({ id, customId, statusCode: 200, requestId, body }), captioned }
  }

  /** The image bears its line's `custom_id`, as `manifestOf` names it. */
  #imageAgain(url: string): Uint8Array {
    const customId = url.replace(/^.*\/(\d+)\.jpg$/, 'a-$1')
    if (!this.goneImages.has(customId)) return gif(customId)
    throw new ImageError('image_not_found', 'It is gone.')
  }

  #captionAgain({ image, level }: CaptionTask): Captioned {
    if (this.busy) throw new TurbineError('It is full.', { status: 429, code: 'queue_full' })
    return this.#caption(Buffer.from(image).toString().split(' ').at(-1)!, level ?? 1)
  }

  #caption(customId: string, pruneLevel: number): Captioned {
    this.runs.set(customId, (this.runs.get(customId) ?? 0) + 1)
    return {
      caption: 'a cat',
      finish_reason: 'stop',
      turbine: {
        prune_level: pruneLevel,
        prune_ratio: pruneLevel / 2,
        tokens_in: 10,
        tokens_out: pruneLevel === 0 ? 10 : 5,
        output_tokens: pruneLevel === 0 ? 3 : 2,
        queue_ms: 0,
        inference_ms: 0,
        model: 'm',
      },
    }
  }
}
