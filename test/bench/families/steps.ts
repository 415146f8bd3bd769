import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { int64 } from '../../../processor/models/exported/rows.ts'
import {
  embed,
  emptyCaches,
  type Feed,
  nextCaches,
  type Originals,
  only,
} from '../../../processor/models/exported/step-by-step.ts'
import type { EncodedPrompt } from '../../../processor/models/prompts.ts'

/** The files of a model as they are, each a session. */
export interface OriginalSessions extends Originals {
  vision: InferenceSession
}

export interface StepsBatch {
  /** Inputs of the vision file, of the pictures of all rows. */
  pictures: Record<string, Tensor>
  /** One for all rows. */
  prompt: EncodedPrompt
  rows: number
  /** First ids of an encoder-decoder. */
  startIds: number[]
  /** Ids of each row. */
  steps: number
}

/** Runs the vision file; its first output. */
export async function originalFeatures(
  { vision }: Pick<OriginalSessions, 'vision'>,
  { pictures }: Pick<StepsBatch, 'pictures'>,
): Promise<Tensor> {
  const name = vision.outputNames[0]!
  return (await vision.run(pictures, [name]))[name]!
}

/**
 * Captions a batch as a program does that drives the files itself: pictures to features, then a run of the decoder for each id,
 * logits and caches read and fed back. Rows that end go on, as nothing ends them here.
 */
export async function stepsOfBatch(originals: OriginalSessions, batch: StepsBatch): Promise<number[][]> {
  const { decoder } = originals
  const { rows, steps } = batch
  const first = await begun(originals, batch, await originalFeatures(originals, batch))
  let caches = emptyCaches(decoder)
  for (const [name, { dims }] of Object.entries(caches))
    caches[name] = new Tensor('float32', new Float32Array(0), [rows, ...dims.slice(1)])
  const made: number[][] = Array.from({ length: rows }, () => [])
  let feeds = first.feeds
  let fed = first.length
  let length = 0
  for (let step = 0; step < steps; step++) {
    length += fed
    const all = [rows, length]
    const outputs = await decoder.run({
      ...only(decoder, {
        ...feeds,
        ...first.states,
        attention_mask: () => int64(new Array<number>(rows * length).fill(1), all),
        position_ids: () => positions(batch, decoder.inputs.get('position_ids')!.dims.length, length, fed),
        use_cache_branch: () => new Tensor('bool', [step > 0], [1]),
      }),
      ...caches,
    })
    const ids = bestIds(outputs.logits!)
    for (const [row, id] of ids.entries()) made[row]!.push(id)
    caches = nextCaches(caches, outputs, step === 0)
    if (step + 1 < steps)
      feeds = await embed(
        originals,
        ids.map((id) => [id]),
      )
    fed = 1
  }
  return made
}

interface Begun {
  feeds: Record<string, Feed>
  states: Record<string, Feed>
  /** Ids that the decoder reads first. */
  length: number
}

async function begun(
  originals: OriginalSessions,
  { prompt, rows, startIds }: StepsBatch,
  features: Tensor,
): Promise<Begun> {
  const ofAll = (ids: number[]) => Array.from({ length: rows }, () => ids)
  const start = async () => ({ feeds: await embed(originals, ofAll(startIds)), length: startIds.length })
  if (!originals.embed) return { ...(await start()), states: statesOf(features) }
  const x = (await embed(originals, ofAll(prompt.ids))).inputs_embeds!
  const [, length, width] = x.dims as [number, number, number]
  const mixed = (x.data as Float32Array).slice()
  const values = features.data as Float32Array
  let at = 0
  for (let row = 0; row < rows; row++)
    for (const place of prompt.places) {
      mixed.set(values.subarray(at, at + width), (row * length + place) * width)
      at += width
    }
  const embeds = new Tensor('float32', mixed, x.dims)
  if (!originals.encoder) return { feeds: { inputs_embeds: embeds }, states: {}, length }
  const mask = int64(new Array<number>(rows * length).fill(1), [rows, length])
  const { last_hidden_state: states } = await originals.encoder.run({
    inputs_embeds: embeds,
    attention_mask: mask,
  })
  return { ...(await start()), states: statesOf(states!) }
}

function statesOf(states: Tensor): Record<string, Feed> {
  const [rows, count] = states.dims as [number, number, number]
  return {
    encoder_hidden_states: states,
    encoder_attention_mask: () => int64(new Array<number>(rows * count).fill(1), [rows, count]),
  }
}

function positions({ prompt, rows }: StepsBatch, rank: number, length: number, count: number): Tensor {
  const lines = prompt.positions ?? [prompt.ids.map((_, at) => at)]
  const next = Math.max(...lines.map((line) => line.at(-1)!)) + length - prompt.ids.length
  const axes = lines.map((line) => (count > 1 ? line : [next]))
  const all = axes.flatMap((line) => Array.from({ length: rows }, () => line).flat())
  return int64(all, rank === 3 ? [lines.length, rows, count] : [rows, count])
}

/** The likeliest id of each row at its last place. */
function bestIds({ dims, data }: Tensor): number[] {
  const [rows, length, size] = dims as [number, number, number]
  const logits = data as Float32Array
  return Array.from({ length: rows }, (_, row) => {
    const begin = ((row + 1) * length - 1) * size
    let best = begin
    for (let at = begin + 1; at < begin + size; at++) if (logits[at]! > logits[best]!) best = at
    return best - begin
  })
}
