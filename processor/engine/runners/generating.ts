import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { type Generator, openGenerator } from '../../models/exported/generator.ts'
import type { GenerateRow } from '../../models/exported/rows.ts'
import type { EncoderDecoderPlan, VisionLanguagePlan } from '../../models/model.ts'
import type { RowResult, RunRow } from '../batch.ts'
import type { Runner, RunnerBatch, RunnerResult } from './runner.ts'
import { VisionRun } from './vision.ts'

type GeneratingPlan = VisionLanguagePlan | EncoderDecoderPlan

/**
 * Ids of one run of the session, behind which rows that ended leave the batch. Fewer would carry the caches out and in
 * again more often.
 */
const chunk = 16

/** Runs a vision session and a session that generates: pictures to features, features and prompts to ids. */
export class GeneratingRunner implements Runner {
  readonly #plan: GeneratingPlan
  readonly #vision: VisionRun
  readonly #session: InferenceSession
  readonly #generator: Generator
  /** Of the batch that runs. */
  #calls: { ms: number; ids: number }[] = []

  constructor(sessions: { vision: InferenceSession; generate: InferenceSession }, plan: GeneratingPlan) {
    this.#plan = plan
    this.#vision = new VisionRun(sessions.vision, plan.vision)
    this.#session = sessions.generate
    const session = {
      inputMetadata: sessions.generate.inputMetadata as never,
      run: (feeds: Record<string, Tensor>, fetches: string[]) => this.#timed(feeds, fetches),
    }
    const { startIds, forcedEndId } = plan.kind === 'encoder-decoder' ? plan : {}
    this.#generator = openGenerator({ session, metadata: plan.generate, startIds, forcedEndId })
  }

  async run({ rows, schedule }: RunnerBatch): Promise<RunnerResult> {
    this.#calls = []
    const features = await this.#features(rows, schedule)
    const prompted = rows.map(
      ({ prompt, settings }, index): GenerateRow => ({ ...prompt, settings, features: features[index]! }),
    )
    const made = await this.#generator.generate(prompted, { chunk })
    return { rows: made as RowResult[], ...stepsOf(this.#calls) }
  }

  async close(): Promise<void> {
    await this.#vision.close()
    await this.#session.release()
  }

  async #features(rows: readonly RunRow[], schedule: RunnerBatch['schedule']): Promise<Float32Array[]> {
    const pictures = rows.flatMap((row) => row.pictures)
    if (pictures.length === 0) return rows.map(() => new Float32Array(0))
    const { features } = await this.#vision.run(pictures, schedule)
    return cutFeatures(features!.data as Float32Array, rows, this.#plan.generate)
  }

  async #timed(feeds: Record<string, Tensor>, fetches: string[]) {
    const start = performance.now()
    const outputs = await this.#session.run(feeds, fetches)
    this.#calls.push({ ms: performance.now() - start, ids: outputs.ids!.dims[1]! })
    return outputs
  }
}

/**
 * The rows of features of each row of a batch: as many as its prompt has places for, or, where prompts have none, the same
 * share for each picture.
 * @throws RangeError when there are more or fewer than places
 */
export function cutFeatures(
  features: Float32Array,
  rows: readonly Pick<RunRow, 'pictures' | 'prompt'>[],
  { form, width }: Pick<GeneratingPlan['generate'], 'form' | 'width'>,
): Float32Array[] {
  const all = features.length / width
  const pictures = rows.reduce((sum, row) => sum + row.pictures.length, 0)
  const shareOf = (row: (typeof rows)[number]) =>
    form === 'features' ? (all / pictures) * row.pictures.length : row.prompt.places.length
  let end = 0
  const cut = rows.map((row) => {
    const begin = end
    end += shareOf(row)
    return features.subarray(begin * width, end * width)
  })
  if (end !== all)
    throw new RangeError(`The prompts of the batch have ${end} places for ${all} rows of features.`)
  return cut
}

/** Steps behind the first, and their time as far as it is known: of a lone call it is not. */
export function stepsOf(
  calls: readonly { ms: number; ids: number }[],
): Pick<RunnerResult, 'steps' | 'stepsMs'> {
  const [first, ...others] = calls
  if (first === undefined) return {}
  const later = others.reduce((sum, { ids }) => sum + ids, 0)
  const steps = first.ids - 1 + later
  if (later === 0) return { steps }
  const msPerStep = others.reduce((sum, { ms }) => sum + ms, 0) / later
  return { steps, stepsMs: Math.min(first.ms, (first.ids - 1) * msPerStep) + later * msPerStep }
}
