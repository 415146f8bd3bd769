import { join } from 'node:path'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { RunPicture, RunRow } from '../../../processor/engine/batch.ts'
import { openRunner } from '../../../processor/engine/runners/open-runner.ts'
import { anyShapes } from '../../../processor/engine/session-options.ts'
import { openFamily } from '../../../processor/models/exported/open-family.ts'
import { int64 } from '../../../processor/models/exported/rows.ts'
import { openOriginal } from '../../../processor/models/exported/step-by-step.ts'
import { greedy } from '../../../processor/models/generation.ts'
import type { CaptionModel, GraphOptions, RunnerPlan } from '../../../processor/models/model.ts'
import { openModel } from '../../../processor/models/open-model.ts'
import {
  type Normalisation,
  type PictureRule,
  type PictureShape,
  unitOf,
} from '../../../processor/models/pictures.ts'
import { openWdTagger } from '../../../processor/models/wd-tagger.ts'
import { readOnnx } from '../../../processor/onnx/read.ts'
import type { SessionOptions } from '../../../processor/onnx/session.ts'
import { smoothPixels } from '../pixels.ts'
import { type OriginalSessions, originalFeatures, stepsOfBatch } from './steps.ts'
import { openTransformersJs } from './transformers-js.ts'

/** Ways to run a folder: Turbine, its files step by step, transformers.js. */
export type SubjectSide = 'loop' | 'steps' | 'package'

/** A model folder as Turbine runs it, as its files are run step by step, and as transformers.js runs it. */
export interface Subject {
  model: CaptionModel
  /** Captions so many pictures at a level; ids of each, or none of a tagger. */
  loop(count: number, level: number): Promise<number[][]>
  /** The same pictures by the files themselves. */
  steps(count: number): Promise<number[][]>
  /** And by transformers.js, one after the other; undefined where it does not know the family. */
  package?(count: number): Promise<number[][]>
  /** Their vision files alone. */
  originalVision(count: number): Promise<unknown>
  close(): Promise<void>
}

export interface SubjectOptions {
  threads: number
  /** Most pictures of one run. */
  most: number
  /** Ids of each caption. */
  ids: number
  /** Opens only these, and the others fail; default: all three. */
  sides?: readonly SubjectSide[]
  /** Of Turbine's sessions; default: as a CPU runs them. */
  session?: SessionOptions
  graph?: GraphOptions
}

/** Opens a folder all three ways. @throws ModelFolderError */
export async function openSubject(folder: string, options: SubjectOptions): Promise<Subject> {
  const { threads, most, ids, sides = ['loop', 'steps', 'package'] } = options
  const model = await openModel(folder)
  const isTagger = model.runner.kind === 'tagger'
  const family = isTagger ? await taggerOf(folder) : await familyOf(folder)
  const onCpu = { intraOpNumThreads: threads }
  const has = (side: SubjectSide) => sides.includes(side)
  // No caption is cut off by an end that only its model forces on it.
  const plan = { ...model.runner, forcedEndId: undefined } as RunnerPlan
  const runner = has('loop')
    ? await openRunner(plan, await model.buildSessions(options.graph), {
        ...(options.session ?? onCpu),
        ...anyShapes,
      })
    : undefined
  const originals = has('steps') ? await openFiles(family, onCpu) : undefined
  const inputNames =
    originals?.vision.inputNames ?? readOnnx(family.files.vision).graph.input.map(({ name }) => name)
  const pictures = picturesOf(family.picture, most)
  const [first] = pictures as [RunPicture]
  const text = { instructions: 'Describe the picture in detail.', tasks: '<CAPTION>', none: '' }[
    model.follows
  ]
  const prompt = await model.encode({ text, pictures: [first.shape] })
  const startIds = model.runner.kind === 'encoder-decoder' ? model.runner.startIds : []
  const forced = prompt.places.length > 0 ? startIds.slice(1) : []
  const rows = pictures.map((picture): RunRow => ({ pictures: [picture], prompt, settings: greedy(ids) }))
  const feedsOf = remembered((count: number) => originalFeeds(family, pictures.slice(0, count), inputNames))
  const lone = pictures.map((picture) => originalFeeds(family, [picture], inputNames))
  const peer =
    isTagger || !has('package') ? undefined : await openTransformersJs(folder, model.family, threads)
  return {
    model,
    async loop(count, level) {
      const schedule = model.levels[level]!
      const result = await runner!.run({ rows: rows.slice(0, count), bucket: count, schedule })
      return result.rows.map((row) => row.ids)
    },
    async steps(count) {
      const batch = { pictures: feedsOf(count), prompt, rows: count, startIds, steps: ids - forced.length }
      if (isTagger) {
        await originalFeatures(originals!, batch)
        return rows.slice(0, count).map(() => [])
      }
      const made = await stepsOfBatch(originals as OriginalSessions, batch)
      return made.map((row) => [...forced, ...row])
    },
    originalVision: (count) => originalFeatures(originals!, { pictures: feedsOf(count) }),
    ...(peer && {
      async package(count) {
        const made: number[][] = []
        for (const each of lone.slice(0, count))
          made.push(await peer.caption({ pictures: each, prompt, startIds, maxTokens: ids }))
        return made
      },
    }),
    async close() {
      await runner?.close()
      await originals?.vision.release()
      for (const each of [originals?.embed, originals?.encoder, originals?.decoder]) await each?.close()
      await peer?.close()
    },
  }
}

interface Described {
  picture: PictureRule
  normalise: Normalisation
  folder: string
  files: { vision: string; embed?: string; encoder?: string; decoder?: string }
}

async function familyOf(folder: string): Promise<Described> {
  const { picture, normalise, sessions } = await openFamily(folder)
  const at = (name: string | undefined) => name && join(folder, 'onnx', `${name}.onnx`)
  const { vision, embed, encoder, decoder } = sessions
  const files = { vision: at(vision)!, embed: at(embed), encoder: at(encoder), decoder: at(decoder) }
  return { picture, normalise, folder: join(folder, 'onnx'), files }
}

async function taggerOf(folder: string): Promise<Described> {
  const { picture, normalise, file } = await openWdTagger(folder)
  return { picture, normalise, folder, files: { vision: file } }
}

type Files = Pick<OriginalSessions, 'vision'> & Partial<OriginalSessions>

async function openFiles(
  { files, folder }: Described,
  session: { intraOpNumThreads: number },
): Promise<Files> {
  const { vision, ...others } = files
  const opened: Files = { vision: await InferenceSession.create(vision, { ...session, logSeverityLevel: 3 }) }
  for (const [name, file] of Object.entries(others))
    if (file) opened[name as 'decoder'] = await openOriginal(file, folder, session)
  return opened
}

/** Different pictures of one shape: whole, or of as many patches as one may have. */
export function picturesOf(rule: PictureRule, count: number): RunPicture[] {
  const [height, width] = unitOf(rule)
  const shape = shapeOf(rule)
  const pixels = smoothPixels(count * shape.count, { height, width })
  const size = pixels.length / count
  return Array.from({ length: count }, (_, at) => {
    const own = new Uint8Array(new SharedArrayBuffer(size))
    own.set(pixels.subarray(at * size, (at + 1) * size))
    return { pixels: own, shape }
  })
}

function shapeOf(rule: PictureRule): PictureShape {
  if (rule.kind !== 'patches') return { count: 1, rows: 0, cols: 0 }
  const side = rule.merge * Math.floor(Math.sqrt(rule.maxPixels) / (rule.patch * rule.merge))
  return { count: side * side, rows: side, cols: side }
}

/** Inputs of the vision file, normalised: not part of any time. */
function originalFeeds(
  { picture: rule, normalise }: Described,
  pictures: RunPicture[],
  inputNames: readonly string[],
): Record<string, Tensor> {
  const [height, width] = unitOf(rule)
  const count = pictures.reduce((sum, { shape }) => sum + shape.count, 0)
  const isPatches = rule.kind === 'patches'
  const turned = normalise.channels === 'bgr'
  const [area, copies] = [height * width, isPatches ? 2 : 1]
  const values = new Float32Array(count * 3 * area * copies)
  let base = 0
  for (const { pixels } of pictures) {
    for (let at = 0; at < pixels.length; at++) {
      const [unit, place] = [Math.floor(at / (3 * area)), at % (3 * area)]
      const channel = isPatches ? Math.floor(place / area) : at % 3
      const value = (pixels[at]! * normalise.rescale - normalise.mean[channel]!) / normalise.std[channel]!
      const inArea = isPatches ? place % area : Math.floor(place / 3)
      if (turned) values[base + 3 * Math.floor(at / 3) + 2 - channel] = value
      else
        for (let copy = 0; copy < copies; copy++)
          values[base + ((unit * 3 + channel) * copies + copy) * area + inArea] = value
    }
    base += pixels.length * copies
  }
  const image = isPatches
    ? [count, 3 * copies * area]
    : turned
      ? [count, height, width, 3]
      : [count, 3, height, width]
  const dims = rule.kind === 'tiles' ? [1, ...image] : image
  const grid = pictures.flatMap(({ shape }) => [1, shape.rows, shape.cols])
  return Object.fromEntries(
    inputNames.map((name) => {
      if (name === 'pixel_attention_mask')
        return [name, new Tensor('bool', new Uint8Array(count * area).fill(1), [1, count, height, width])]
      return [
        name,
        name.endsWith('grid_thw') ? int64(grid, [pictures.length, 3]) : new Tensor('float32', values, dims),
      ]
    }),
  )
}

function remembered<Key, Value>(make: (key: Key) => Value): (key: Key) => Value {
  const known = new Map<Key, Value>()
  return (key) => {
    if (!known.has(key)) known.set(key, make(key))
    return known.get(key)!
  }
}
