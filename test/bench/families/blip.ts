import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunPicture, RunRow } from '../../../processor/engine/batch.ts'
import { openRunner } from '../../../processor/engine/runners/open-runner.ts'
import { anyShapes } from '../../../processor/engine/session-options.ts'
import { type BlipModel, openBlip } from '../../../processor/models/blip.ts'
import { type GenerationSettings, greedy } from '../../../processor/models/generation.ts'
import { type PictureShape, pictureBytes, wholePicture } from '../../../processor/models/pictures.ts'
import { readExpected, tinyBlip } from '../../../processor/models/tiny-blip.fixture.ts'
import type { SessionOptions } from '../../../processor/onnx/session.ts'
import { smoothPixels } from '../pixels.ts'
import type { Parity } from './parity.ts'
import type { Subject, SubjectOptions } from './subject.ts'

export { tinyBlip }

interface BeamsEntry {
  options: {
    num_beams: number
    no_repeat_ngram_size?: number
    repetition_penalty?: number
    length_penalty?: number
    early_stopping?: boolean
  }
  ids: number[][]
  prompted: number[][]
}

/** Captions of the tiny model that get what Hugging Face's `transformers` gives, of all: alone, behind a prompt, by beams. */
export async function blipParity(session: SessionOptions): Promise<Parity> {
  const model = await openBlip(tinyBlip)
  const expected = await readExpected()
  const beams: BeamsEntry[] = JSON.parse(await readFile(join(tinyBlip, 'beams.json'), 'utf8'))
  const runner = await openRunner(model.runner, await model.buildSessions(), session)
  const bytes = pictureBytes(model.picture, wholePicture)
  const alone = () => [model.startId]
  const behind = (image: number) => [model.startId, ...expected.prompt[image]!.slice(1, -1)]
  const cases = [
    { ids: expected.ids, promptOf: alone, asked: {} },
    { ids: expected.promptedIds, promptOf: behind, asked: {} },
    ...beams.flatMap(({ options, ids, prompted }) => [
      { ids, promptOf: alone, asked: settingsOf(options) },
      { ids: prompted, promptOf: behind, asked: settingsOf(options) },
    ]),
  ].flatMap(({ ids, promptOf, asked }) =>
    ids.map((caption, image) => ({ caption, image, prompt: promptOf(image), asked })),
  )
  let equal = 0
  for (const { caption, image, prompt, asked } of cases) {
    const pixels = shared(expected.pixels.subarray(image * bytes, (image + 1) * bytes))
    const row: RunRow = {
      pictures: [{ pixels, shape: wholePicture }],
      prompt: { ids: prompt, places: [], answer: 0 },
      settings: { ...model.generation, ...asked },
    }
    const { rows } = await runner.run({ rows: [row], bucket: 1, schedule: model.levels[0]! })
    const end = caption.indexOf(model.endId)
    const whole = end < 0 ? caption : caption.slice(0, end + 1)
    if ([...prompt, ...rows[0]!.ids].join() === whole.join()) equal++
  }
  await runner.close()
  return { equal, cases: cases.length }
}

const settingsOf = (options: BeamsEntry['options']): Partial<GenerationSettings> => ({
  beams: options.num_beams,
  noRepeatNgram: options.no_repeat_ngram_size ?? 0,
  repetitionPenalty: options.repetition_penalty ?? 1,
  lengthPenalty: options.length_penalty ?? 1,
  earlyStopping: options.early_stopping ?? false,
})

/** A guard that changes nothing, so that captions are made step by step. */
const stepwise = { noRepeatNgram: 100 }

/**
 * Opens a BLIP both ways: its graph in one run, and step by step in sessions of its own, caches carried from run to run by the
 * host. transformers.js does not know the family.
 * @throws ModelFolderError
 */
export async function openBlipSubject(
  folder: string,
  { threads, most, ids }: SubjectOptions,
): Promise<Subject> {
  const model = await openBlip(folder)
  const graphs = await model.buildSessions()
  const session = { intraOpNumThreads: threads, ...anyShapes }
  const runner = await openRunner(model.runner, graphs, session)
  const pictures = picturesOf(model, most)
  const prompt = await model.encode({ text: '', pictures: [wholePicture] })
  const run = async (count: number, level: number, asked: Partial<GenerationSettings> = {}) => {
    const settings = { ...greedy(ids), ...asked }
    const rows = pictures
      .slice(0, count)
      .map((picture): RunRow => ({ pictures: [picture], prompt, settings }))
    const result = await runner.run({ rows, bucket: count, schedule: model.levels[level]! })
    return result.rows.map((row) => row.ids)
  }
  return {
    model,
    loop: (count, level) => run(count, level),
    steps: (count) => run(count, 0, stepwise),
    // One id: hardly more than the encoder.
    originalVision: (count) => run(count, 0, { maxTokens: 1 }),
    close: () => runner.close(),
  }
}

/** Different pictures of the model's size. */
function picturesOf({ picture: { height, width } }: BlipModel, count: number): RunPicture[] {
  const pixels = smoothPixels(count, { height, width })
  const size = pixels.length / count
  const shape: PictureShape = wholePicture
  return Array.from({ length: count }, (_, at) => ({
    pixels: shared(pixels.subarray(at * size, (at + 1) * size)),
    shape,
  }))
}

function shared(bytes: Uint8Array): Uint8Array<SharedArrayBuffer> {
  const pixels = new Uint8Array(new SharedArrayBuffer(bytes.length))
  pixels.set(bytes)
  return pixels
}
