import { type InferenceSession, Tensor } from 'onnxruntime-node'
import type { CaptionerPlan } from '../../models/model.ts'
import type { RowResult, RunRow } from '../batch.ts'
import { JoinedPixels } from './joined-pixels.ts'
import type { RawOutput, Runner, RunnerBatch, RunnerResult } from './runner.ts'

/** Runs the one session of a captioner, pixels to ids. */
export class CaptionerRunner implements Runner {
  readonly #session: InferenceSession
  readonly #plan: CaptionerPlan
  readonly #pixels = new JoinedPixels()

  constructor(session: InferenceSession, plan: CaptionerPlan) {
    this.#session = session
    this.#plan = plan
  }

  async run(batch: RunnerBatch): Promise<RunnerResult> {
    const { height, width, endId } = this.#plan
    const { bucket, schedule } = batch
    const { rows, promptLength } = paddedRows(batch)
    const prompt = rows.flatMap(({ prompt }) => prompt.ids)
    const limits = rows.map(({ settings }) => settings.maxTokens)
    const pixels = this.#pixels.join(rows.map(({ pictures }) => pictures[0]!.pixels))
    const results = await this.#session.run({
      pixels: new Tensor('uint8', pixels, [bucket, height, width, 3]),
      prompt: new Tensor('int64', BigInt64Array.from(prompt, BigInt), [bucket, promptLength]),
      limit: new Tensor('int64', BigInt64Array.from(limits, BigInt), [bucket, 1]),
      r: new Tensor('int64', BigInt64Array.from(schedule.r, BigInt), [schedule.r.length]),
      weight: new Tensor('float32', Float32Array.from(schedule.weight), [schedule.weight.length]),
    })
    const { ids, ...others } = results
    const outputs: Record<string, RawOutput> = {}
    for (const [name, { type, dims, data }] of Object.entries(others)) outputs[name] = { type, dims, data }
    return {
      rows: rowResults(ids!.data as BigInt64Array, { limits, promptLength, endId }).slice(
        0,
        batch.rows.length,
      ),
      outputs,
    }
  }

  async close(): Promise<void> {
    await this.#session.release()
  }
}

/**
 * Fills a batch up with its first row, whose caption ends no later than the batch's longest.
 * @throws RangeError when prompts differ in length
 */
export function paddedRows({ rows, bucket }: Pick<RunnerBatch, 'rows' | 'bucket'>): {
  rows: RunRow[]
  promptLength: number
} {
  const promptLength = rows[0]?.prompt.ids.length ?? 0
  if (promptLength === 0 || rows.some(({ prompt }) => prompt.ids.length !== promptLength))
    throw new RangeError('The rows of a batch need prompts of one length, 1 or more.')
  return { rows: Array.from({ length: bucket }, (_, index) => rows[index] ?? rows[0]!), promptLength }
}

/** Rows of `ids int64 [B, T]` behind their prompts, each up to its end id, or to its limit. */
export function rowResults(
  ids: BigInt64Array,
  { limits, promptLength, endId }: { limits: readonly number[]; promptLength: number; endId: number },
): RowResult[] {
  const length = ids.length / limits.length
  return limits.map((limit, index) => {
    const row = Array.from(ids.subarray(index * length + promptLength, (index + 1) * length), Number)
    const end = row.indexOf(endId)
    return { ids: row.slice(0, end < 0 ? limit : end + 1), ended: end >= 0 }
  })
}
