import type { InferenceSession } from 'onnxruntime-node'
import type { TaggerPlan } from '../../models/model.ts'
import type { Runner, RunnerBatch, RunnerResult } from './runner.ts'
import { traced, VisionRun } from './vision.ts'

/** Runs the one session of a tagger, pixels to a score for each tag. */
export class TaggerRunner implements Runner {
  readonly #vision: VisionRun

  constructor(session: InferenceSession, { vision }: TaggerPlan) {
    this.#vision = new VisionRun(session, vision)
  }

  async run({ rows, bucket, schedule }: RunnerBatch): Promise<RunnerResult> {
    const padded = Array.from({ length: bucket }, (_, index) => rows[index] ?? rows[0]!)
    const seen = await this.#vision.run(
      padded.flatMap(({ pictures }) => pictures),
      schedule,
    )
    const tags = seen.read.dims[1]!
    const data = seen.read.data as Float32Array
    return {
      rows: rows.map((_, index) => ({
        ids: [],
        ended: true,
        scores: data.slice(index * tags, (index + 1) * tags),
      })),
      ...traced(seen),
    }
  }

  close(): Promise<void> {
    return this.#vision.close()
  }
}
