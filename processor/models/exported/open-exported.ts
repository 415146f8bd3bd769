import { readdir } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { openSession } from '../../onnx/session.ts'
import { ModelFolderError } from '../../onnx/weights.ts'
import type { EncoderShape } from '../../turbo/flops.ts'
import { idsOfBans } from '../generation/bans.ts'
import { type GenerationDefaults, type GenerationSettings, readGenerationDefaults } from '../generation.ts'
import { type PruneLevel, readLevels } from '../levels.ts'
import type { CaptionModel, RunnerPlan, SelfTestOptions, SessionGraphs, VisionPlan } from '../model.ts'
import { type PictureRule, type PictureShape, shapeOf, unitOf } from '../pictures.ts'
import type { PromptRequest } from '../prompts.ts'
import { headWidthOf } from './config.ts'
import { decoderGraph } from './decoder-graph.ts'
import type { DtypeOptions } from './dtypes.ts'
import { encoderGraph } from './encoder-graph.ts'
import type { ExportedFamily } from './family.ts'
import { openGenerator } from './generator.ts'
import type { GenerateGraph } from './graph.ts'
import { type FamilyOptions, openFamily } from './open-family.ts'
import { selfTest } from './self-test.ts'
import { type SessionFile, sessionFiles } from './sessions.ts'
import { openToTest, originalGraph } from './step-by-step.ts'
import { type VisionGraph, visionGraph } from './vision-graph.ts'

/** Settings that callers of a model with a loop of its own can change. */
const honours: readonly (keyof GenerationSettings)[] = [
  'maxTokens',
  'minTokens',
  'temperature',
  'topP',
  'topK',
  'seed',
  'repetitionPenalty',
  'noRepeatNgram',
  'frequencyPenalty',
  'presencePenalty',
]

/** They say how the sessions are fed, so that a model is another one when they change. */
const describing = [
  'config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'tokenizer.json',
  'generation_config.json',
]

type Files = Record<string, SessionFile>

interface HeadWidth {
  /** Of the text model's attention heads, where it is known. */
  headWidth: number | undefined
}

/**
 * Opens a folder of exported sessions, as transformers.js has them: vision encoder with Turbo inside where it has a place, and
 * the text model in a loop.
 * @throws ModelFolderError
 */
export async function openExported(
  folder: string,
  { picturePixels, ...types }: FamilyOptions & Omit<DtypeOptions, 'stated'> = {},
): Promise<CaptionModel> {
  const family = await openFamily(folder, { picturePixels })
  const { sessions, picture, normalise } = family
  const files: Files = await sessionFiles(
    folder,
    Object.values(sessions).filter((name) => name !== undefined),
    types,
  )
  const there = await readdir(folder)
  const weights = join(folder, 'onnx')
  const encoderDecoder = isEncoderDecoder(family)
  const defaults = await readGenerationDefaults(folder, { encoderDecoder, beams: encoderDecoder })
  const vision = await visionGraph({
    file: files[sessions.vision]!.file,
    folder: weights,
    picture,
    normalise,
    unmerge: sessions.embed !== undefined,
  })
  const headWidth = await headWidthOf(folder)
  const generate = generateGraph(family, files, { ...defaults, headWidth })
  checkIds(family, defaults, generate.metadata.vocabulary)
  const encoder = encoderOf(family, vision)
  const unit = unitBytesOf(family)
  const hasBeams = isEncoderDecoder(family) && (defaults.settings.beams ?? 1) > 1
  return {
    id: basename(resolve(folder)),
    folder,
    family: family.family,
    picture,
    ...(vision.patch && { patch: vision.patch }),
    encoder,
    levels: vision.plugged ? await readLevels(folder, encoder) : [unpruned(encoder)],
    ...(vision.refused !== undefined && { unpruned: vision.refused }),
    batchInvariant: vision.batchInvariant && generate.metadata.batchInvariant,
    follows: family.follows,
    ...(family.tasks && { tasks: family.tasks }),
    ...(family.textTasks && { textTasks: family.textTasks }),
    maxPictures: family.maxPictures,
    ...(sessions.embed && { imageRows: family.imageRows }),
    encode: (request) => encode(family, request),
    decode: family.decode,
    endIds: defaults.endIds,
    generation: defaults.settings,
    unhonoured: defaults.unhonoured,
    maxTokens: family.maxContext,
    honours: isEncoderDecoder(family) ? [...honours, 'beams'] : honours,
    runner: planOf(family, { unit, output: vision.output }, generate, defaults),
    dtype: [...new Set(Object.values(files).map(({ dtype }) => dtype))].join(', '),
    weightFiles: [
      ...Object.values(files).map(({ file }) => relative(folder, file)),
      ...describing.filter((name) => there.includes(name)),
    ],
    buildSessions: async (options) => ({
      vision: { graph: await vision.build(options), folder: weights },
      generate: { graph: generate.model, folder: weights, onDemand: hasBeams },
      ...(isEncoderDecoder(family) && beamGraphs(family, files, !hasBeams)),
    }),
    selfTest: async (options) => {
      await testFeatures(family, vision, generate, options)
      await testGenerating(family, { files, generate, defaults, headWidth, options })
    },
  }
}

const isEncoderDecoder = ({ sessions }: ExportedFamily) =>
  sessions.encoder !== undefined || sessions.embed === undefined

function generateGraph(
  family: ExportedFamily,
  files: Files,
  { endIds, padId, settings: { bans }, headWidth }: GenerationDefaults & HeadWidth,
): GenerateGraph {
  const { folder, sessions } = family
  const fileOf = (name: string | undefined) => files[name!]!.file
  const ends = {
    folder: join(folder, 'onnx'),
    endIds,
    padId,
    bans,
    headWidth,
    decoder: fileOf(sessions.decoder),
  }
  if (!isEncoderDecoder(family)) return decoderGraph({ ...ends, embed: fileOf(sessions.embed) })
  return encoderGraph({
    ...ends,
    ...(sessions.encoder && { text: { embed: fileOf(sessions.embed), encoder: fileOf(sessions.encoder) } }),
  })
}

/** The files of an encoder-decoder as sessions of their own, for beams: these are moved between the runs of its decoder. */
function beamGraphs(
  { folder, sessions: { embed, encoder, decoder } }: ExportedFamily,
  files: Files,
  onDemand: boolean,
): SessionGraphs {
  const weights = join(folder, 'onnx')
  const named = Object.entries({ embed, encoder, decoder }).flatMap(([name, session]) =>
    session === undefined ? [] : [[name, originalGraph(files[session]!.file, weights)] as const],
  )
  return Object.fromEntries(named.map(([name, graph]) => [name, { graph, folder: weights, onDemand }]))
}

function planOf(
  family: ExportedFamily,
  vision: VisionPlan,
  { metadata }: GenerateGraph,
  { startIds, forcedEndId }: GenerationDefaults,
): RunnerPlan {
  const lengths = metadata.equalLengths ? 'equal' : 'padded'
  if (!isEncoderDecoder(family))
    return { kind: 'vision-language', lengths, vision, generate: metadata, forcedEndId }
  return { kind: 'encoder-decoder', lengths, vision, generate: metadata, startIds, forcedEndId }
}

async function encode(family: ExportedFamily, request: PromptRequest) {
  const prompt = await family.encode(request)
  return family.positions
    ? { ...prompt, positions: family.positions(prompt, request.pictures).positions }
    : prompt
}

/** Sizes of the encoder, of one tile or patch; where Turbo has no place, only the tokens that the text model reads are known. */
function encoderOf({ picture, imageRows }: ExportedFamily, { plugged }: VisionGraph): EncoderShape {
  if (plugged) {
    const { tokensIn: tokens, layers, width, heads } = plugged
    return { tokens, layers, width, heads, mlpWidth: 4 * width }
  }
  const tokens = picture.kind === 'patches' ? 1 : imageRows({ count: 1, rows: 0, cols: 0 })
  return { tokens, layers: 0, width: 1, heads: 1, mlpWidth: 1 }
}

const unpruned = ({ tokens, layers }: EncoderShape): PruneLevel => ({
  r: new Array<number>(layers).fill(0),
  weight: new Array<number>(layers).fill(0),
  tokensOut: tokens,
  pruneRatio: 0,
  flopShare: 1,
})

function unitBytesOf({ picture }: ExportedFamily): number[] {
  const [height, width] = unitOf(picture)
  return picture.kind === 'patches' ? [3 * height * width] : [height, width, 3]
}

/** @throws ModelFolderError for ids that the decoder has no logits for */
function checkIds(
  { folder, vocabulary: known }: Pick<ExportedFamily, 'folder' | 'vocabulary'>,
  { endIds, padId, startIds, forcedEndId, settings: { bans } }: GenerationDefaults,
  vocabulary: number | undefined,
): void {
  if (vocabulary === undefined) return
  if (known > vocabulary)
    throw new ModelFolderError(
      `${join(folder, 'tokenizer.json')} has ids up to ${known - 1}; the decoder knows ${vocabulary}. It is of another model: pull the model again.`,
    )
  const banned = bans ? idsOfBans(bans) : []
  const strange = [...endIds, padId, ...startIds, forcedEndId ?? 0, ...banned].find((id) => id >= vocabulary)
  if (strange !== undefined)
    throw new ModelFolderError(
      `${join(folder, 'generation_config.json')} has the id ${strange}; the decoder knows ${vocabulary}. It is of another model: pull the model again.`,
    )
}

/** @throws ModelFolderError when a picture has other features than the text model reads */
async function testFeatures(
  { folder, picture, imageRows }: ExportedFamily,
  vision: VisionGraph,
  { metadata: { width } }: GenerateGraph,
  options: SelfTestOptions,
): Promise<void> {
  const shape = leastShape(picture)
  const { dims } = await vision.test(shape, options)
  const rows = dims.slice(0, -1).reduce((product, size) => product * size, 1)
  const expected = imageRows(shape)
  if (rows === expected && dims.at(-1) === width) return
  throw new ModelFolderError(
    `${folder}: the vision session gives ${rows} rows of ${dims.at(-1)} for a picture, where the folder's configuration and decoder have ${expected} of ${width}. Its files are of different models: pull the model again.`,
  )
}

/** Of the smallest picture: one tile, or few patches. */
const leastShape = (picture: PictureRule): PictureShape =>
  picture.kind === 'tiles' ? { count: 1, rows: 0, cols: 0 } : shapeOf(picture, 1, 1)

interface GeneratingTest extends HeadWidth {
  files: Files
  generate: GenerateGraph
  defaults: GenerationDefaults
  options: SelfTestOptions
}

async function testGenerating(
  family: ExportedFamily,
  { files, generate, defaults, headWidth, options }: GeneratingTest,
): Promise<void> {
  const { folder, sessions, imageRows } = family
  const weights = join(folder, 'onnx')
  const original = (name: string | undefined) =>
    name === undefined ? undefined : openToTest(files[name]!.file, weights, options.session)
  const { metadata, model } = generate
  const { startIds, settings } = defaults
  const session = await openSession(model, weights, options.session)
  const originals = {
    embed: await original(sessions.embed),
    encoder: await original(sessions.encoder),
    decoder: (await original(sessions.decoder))!,
  }
  try {
    const generator = openGenerator({ session: session as never, metadata, startIds })
    const featureRows = imageRows({ count: 1, rows: 0, cols: 0 })
    const { vocabulary } = family
    const { bans } = settings
    await selfTest({
      folder,
      generator,
      metadata,
      originals,
      startIds,
      bans,
      featureRows,
      vocabulary,
      headWidth,
    })
  } finally {
    await session.release()
    for (const each of Object.values(originals)) await each?.close()
  }
}
