import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { type BeamSessions, beamSearch, beamSessions, hasBeams } from '../../models/exported/beam-search.ts'
import {
  type GenerateOptions,
  type GeneratorOptions,
  openGenerator,
} from '../../models/exported/generator.ts'
import type { GenerateRow } from '../../models/exported/rows.ts'
import { type OriginalSession, originalOf } from '../../models/exported/step-by-step.ts'
import type { EncoderDecoderPlan, VisionLanguagePlan } from '../../models/model.ts'
import type { RowGroup, RowResult, RunRow } from '../batch.ts'
import { inParts } from './in-parts.ts'
import type { OnDemand } from './on-demand.ts'
import type { RunEvents, Runner, RunnerBatch, RunnerResult } from './runner.ts'
import { RunningRows } from './running-rows.ts'
import { type Seen, traced, VisionRun } from './vision.ts'

type GeneratingPlan = VisionLanguagePlan | EncoderDecoderPlan

export interface GeneratingSessions {
  vision: InferenceSession
  generate: OnDemand
  /** `decoder`, `embed` and `encoder` of an encoder-decoder as they are, for rows with beams. */
  beams?: Readonly<Record<string, OnDemand>>
}

/** Runs a vision session and a session that generates: pictures to features, features and prompts to ids. */
export class GeneratingRunner implements Runner {
  readonly #plan: GeneratingPlan
  readonly #vision: VisionRun
  readonly #sessions: GeneratingSessions
  /** Of the batch that runs. */
  #calls: { ms: number; ids: number }[] = []

  constructor(sessions: GeneratingSessions, plan: GeneratingPlan) {
    this.#plan = plan
    this.#vision = new VisionRun(sessions.vision, plan.vision)
    this.#sessions = sessions
  }

  async run(batch: RunnerBatch, events: RunEvents = {}): Promise<RunnerResult> {
    this.#calls = []
    const { rows, seen, visionMs } = await this.#begin(batch)
    const plan = this.#plan
    const made =
      plan.kind === 'encoder-decoder'
        ? await inParts(rows, ({ settings }) => hasBeams(settings), {
            yes: (those) => this.#searched(those, plan),
            no: (those) => this.#generated(those, plan),
          })
        : await this.#stepwise({ asked: batch.rows, rows, visionMs }, plan, events)
    return { rows: made, ...stepsOf(this.#calls), ...(seen && traced(seen)) }
  }

  /** Pictures of rows to features, between which their prompts are. */
  async #begin({ rows, schedule }: RowGroup) {
    const start = performance.now()
    const seen = await this.#see(rows, schedule)
    const features = seen
      ? cutFeatures(seen.read.data as Float32Array, rows, this.#plan.generate)
      : rows.map(() => new Float32Array(0))
    const prompted = rows.map(
      (row, index): GenerateRow => ({
        ...this.#promptOf(row),
        features: features[index]!,
        settings: row.settings,
      }),
    )
    return { rows: prompted, seen, visionMs: performance.now() - start }
  }

  /** Results of the first rows; of those that join, what is told of them. */
  async #stepwise(
    first: { asked: readonly RunRow[]; rows: GenerateRow[]; visionMs: number },
    { generate: { endIds }, forcedEndId }: VisionLanguagePlan,
    events: RunEvents,
  ): Promise<RowResult[]> {
    const running = new RunningRows(endIds, events)
    running.add(first.asked, first.visionMs)
    const { join } = events
    const made = await this.#generated(
      first.rows,
      { forcedEndId },
      {
        chunk: (rows) => running.chunk(rows),
        onTokens: (row, ids) => running.made(row, ids),
        ...(join && {
          more: async (count) => {
            const group = await join(count)
            if (!group) return []
            try {
              const { rows, visionMs } = await this.#begin(group)
              running.add(group.rows, visionMs)
              return rows
            } catch (error) {
              running.refuse(group.rows, error)
              return []
            }
          },
          onFailed: (rows, error) => running.failed(rows, error),
          onRun: (run) => {
            this.#calls = []
            running.timed(run)
          },
        }),
      },
    )
    return made.slice(0, first.rows.length)
  }

  async #generated(
    rows: GenerateRow[],
    ids: Pick<GeneratorOptions, 'startIds' | 'forcedEndId'>,
    options: GenerateOptions = {},
  ): Promise<RowResult[]> {
    const opened = await this.#sessions.generate.get()
    const session = {
      inputMetadata: opened.inputMetadata as never,
      run: (feeds: Record<string, Tensor>, fetches: string[]) =>
        this.#timed(
          () => opened.run(feeds, fetches),
          ({ ids }) => ids!.dims[1]!,
        ),
    }
    const { startIds, forcedEndId } = ids
    const generator = openGenerator({ session, metadata: this.#plan.generate, startIds, forcedEndId })
    return generator.generate(rows, options)
  }

  async #searched(
    rows: GenerateRow[],
    { startIds, forcedEndId, generate }: EncoderDecoderPlan,
  ): Promise<RowResult[]> {
    return beamSearch(await this.#beams(), rows, {
      ...{ endIds: generate.endIds, startIds, prompted: generate.form === 'features' },
      ...(forcedEndId !== undefined && { forcedEndId }),
    })
  }

  async #beams(): Promise<BeamSessions> {
    const { embed, encoder, decoder } = this.#sessions.beams ?? {}
    const open = async (session: OnDemand | undefined) => session && originalOf(await session.get())
    const opened = (await open(decoder))!
    const timed: OriginalSession = {
      ...opened,
      run: (feeds, fetches) =>
        this.#timed(
          () => opened.run(feeds, fetches),
          () => 1,
        ),
    }
    return beamSessions({ embed: await open(embed), encoder: await open(encoder), decoder: timed })
  }

  /** The first ids of an encoder-decoder's answer are its prompt where it reads no text, and else stand behind the start ids. */
  #promptOf({ prompt: { ids, places, positions, start } }: RunRow) {
    const plan = this.#plan
    if (plan.kind === 'vision-language') return { ids, places, positions }
    return plan.generate.form === 'features'
      ? { ids: start ?? plan.startIds, places: [] }
      : { ids, places, beginning: start?.slice(plan.startIds.length) }
  }

  async close(): Promise<void> {
    await this.#vision.close()
    const { generate, beams = {} } = this.#sessions
    for (const session of [generate, ...Object.values(beams)]) await session.close()
  }

  /** Undefined where there are no pictures. */
  async #see(rows: readonly RunRow[], schedule: RunnerBatch['schedule']): Promise<Seen | undefined> {
    const pictures = rows.flatMap((row) => row.pictures)
    return pictures.length === 0 ? undefined : this.#vision.run(pictures, schedule)
  }

  async #timed<Outputs>(run: () => Promise<Outputs>, idsOf: (outputs: Outputs) => number): Promise<Outputs> {
    const start = performance.now()
    const outputs = await run()
    this.#calls.push({ ms: performance.now() - start, ids: idsOf(outputs) })
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
