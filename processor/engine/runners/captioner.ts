import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { type BeamSessions, beamSearch, isGuarded, taken } from '../../models/exported/beam-search.ts'
import { float32, type GenerateRow, int64 } from '../../models/exported/rows.ts'
import { originalOf } from '../../models/exported/step-by-step.ts'
import type { CaptionerPlan } from '../../models/model.ts'
import type { RowResult, RunRow } from '../batch.ts'
import { inParts } from './in-parts.ts'
import { JoinedPixels } from './joined-pixels.ts'
import type { OnDemand } from './on-demand.ts'
import type { RawOutput, Runner, RunnerBatch, RunnerResult } from './runner.ts'

/** `encoder` and `decoder` of rows that are made step by step. */
type Stepwise = Readonly<Record<string, OnDemand>>

/** Runs the one session of a captioner, pixels to ids; rows with beams or guards step by step. */
export class CaptionerRunner implements Runner {
  readonly #session: InferenceSession
  readonly #plan: CaptionerPlan
  readonly #stepwise: Stepwise
  readonly #pixels = new JoinedPixels()

  constructor(session: InferenceSession, plan: CaptionerPlan, stepwise: Stepwise = {}) {
    this.#session = session
    this.#plan = plan
    this.#stepwise = stepwise
  }

  async run(batch: RunnerBatch): Promise<RunnerResult> {
    let outputs: RunnerResult['outputs']
    const rows = await inParts(batch.rows, ({ settings }) => isGuarded(settings), {
      yes: (guarded) => this.#search(guarded, batch.schedule),
      no: async (plain) => {
        const result = await this.#loop({ ...batch, rows: plain })
        outputs = result.outputs
        return result.rows
      },
    })
    return { rows, ...(outputs && { outputs }) }
  }

  async #search(rows: readonly RunRow[], schedule: RunnerBatch['schedule']): Promise<RowResult[]> {
    const { height, width, endId, stepwise } = this.#plan
    const { encoder, decoder } = this.#stepwise
    if (!stepwise || !encoder || !decoder) throw new RangeError('The model makes greedy captions alone.')
    const pixels = this.#pixels.join(rows.map(({ pictures }) => pictures[0]!.pixels))
    const image = (await (
      await encoder.get()
    ).run({
      pixels: new Tensor('uint8', pixels, [rows.length, height, width, 3]),
      ...scheduleFeeds(schedule),
    })) as Record<string, Tensor>
    const asked = rows.map(({ prompt: { ids }, settings }): GenerateRow => {
      const most = stepwise.maxNewTokens ?? stepwise.maxLength - ids.length
      const maxTokens = Math.max(1, Math.min(settings.maxTokens, most))
      return { ids, places: [], features: new Float32Array(0), settings: { ...settings, maxTokens } }
    })
    const sessions: BeamSessions = {
      decoder: originalOf(await decoder.get()),
      encode: async (some) =>
        taken(
          image,
          some.map((row) => asked.indexOf(row)),
        ),
      embed: async (ids) => ({ input_ids: int64(ids.flat(), [ids.length, ids[0]!.length]) }),
    }
    return beamSearch(sessions, asked, { endIds: [endId], startIds: [], prompted: true })
  }

  async #loop(batch: RunnerBatch): Promise<RunnerResult> {
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
      ...scheduleFeeds(schedule),
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
    for (const session of Object.values(this.#stepwise)) await session.close()
  }
}

const scheduleFeeds = ({ r, weight }: RunnerBatch['schedule']) => ({
  r: int64(r, [r.length]),
  weight: float32(weight, [weight.length]),
})

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
