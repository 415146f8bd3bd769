import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RunRow } from '../../../processor/engine/batch.ts'
import { openRunner } from '../../../processor/engine/runners/open-runner.ts'
import { greedy } from '../../../processor/models/generation.ts'
import type { CaptionModel, RunnerPlan } from '../../../processor/models/model.ts'
import { openModel } from '../../../processor/models/open-model.ts'
import { type ReferenceCase, referenceOf } from '../../../processor/models/reference.fixture.ts'
import type { SessionOptions } from '../../../processor/onnx/session.ts'

/** Cases of a family's tiny model that get what Hugging Face's `transformers` gives, of all. */
export interface Parity {
  equal: number
  cases: number
}

/** Folder of a family's tiny model. */
export const tinyFolder = (family: string): string =>
  join(fileURLToPath(new URL('../../fixtures/models', import.meta.url)), family)

type Case = ReferenceCase & {
  ids?: number[]
  scores?: number[]
  maxNewTokens?: number
  options?: {
    repetition_penalty?: number
    no_repeat_ngram_size?: number
    num_beams?: number
    early_stopping?: boolean
    forced_eos_token_id?: null
  }
}

/** Runs every case that is stored of a family, one by one. */
export async function parityOf(family: string, session: SessionOptions): Promise<Parity> {
  const reference = referenceOf(family)
  const model = await openModel(reference.folder)
  const graphs = await model.buildSessions()
  const plans = { usual: model.runner, unforced: { ...model.runner, forcedEndId: undefined } as RunnerPlan }
  const runners = {
    usual: await openRunner(plans.usual, graphs, session),
    unforced: await openRunner(plans.unforced, graphs, session),
  }
  const pictureOf = (name: string) => {
    const view = reference.views[name]!
    return { pixels: shared(reference.pixels(view)), shape: view.shape }
  }
  let equal = 0
  const cases = reference.cases as Case[]
  for (const given of cases) {
    const row = await rowOf(model, given, given.views.map(pictureOf))
    const runner = given.options?.forced_eos_token_id === null ? runners.unforced : runners.usual
    const { rows } = await runner.run({ rows: [row], bucket: 1, schedule: model.levels[0]! })
    const [{ ids, scores }] = rows as [(typeof rows)[number]]
    if (given.scores ? isNear(scores!, given.scores) : ids.join() === given.ids!.join()) equal++
  }
  for (const runner of Object.values(runners)) await runner.close()
  return { equal, cases: cases.length }
}

async function rowOf(model: CaptionModel, given: Case, pictures: RunRow['pictures']): Promise<RunRow> {
  if (given.scores) return { pictures, prompt: { ids: [], places: [] }, settings: greedy(1) }
  const { options = {}, beginning } = given
  const said = (role: string) =>
    given.messages
      .filter((message) => message.role === role)
      .flatMap(({ content }) => content.flatMap(({ text }) => text ?? []))
      .join('')
  const request = { system: said('system'), text: said('user'), beginning }
  const { generation } = model
  return {
    pictures,
    prompt: await model.encode({ ...request, pictures: pictures.map(({ shape }) => shape) }),
    settings: {
      ...generation,
      ...greedy(given.maxNewTokens!),
      repetitionPenalty: options.repetition_penalty ?? generation.repetitionPenalty,
      noRepeatNgram: options.no_repeat_ngram_size ?? generation.noRepeatNgram,
      beams: options.num_beams ?? generation.beams,
      earlyStopping: options.early_stopping ?? generation.earlyStopping,
    },
  }
}

function shared(bytes: Uint8Array): Uint8Array<SharedArrayBuffer> {
  const pixels = new Uint8Array(new SharedArrayBuffer(bytes.length))
  pixels.set(bytes)
  return pixels
}

const isNear = (scores: Float32Array, expected: number[]) =>
  expected.every((score, at) => Math.abs(score - scores[at]!) < 1e-4)
