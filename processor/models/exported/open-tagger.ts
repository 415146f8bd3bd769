import { basename, dirname, relative, resolve } from 'node:path'
import { ModelFolderError } from '../../onnx/weights.ts'
import { greedy } from '../generation.ts'
import { readLevels } from '../levels.ts'
import type { CaptionModel } from '../model.ts'
import { wholePicture } from '../pictures.ts'
import { openWdTagger } from '../wd-tagger.ts'
import { visionGraph } from './vision-graph.ts'

/** Opens a tagger as a model whose captions are its tags. @throws ModelFolderError */
export async function openTagger(folder: string): Promise<CaptionModel> {
  const { picture, normalise, file, family, describe, tags } = await openWdTagger(folder)
  const weights = dirname(file)
  const vision = await visionGraph({ file, folder: weights, picture, normalise, unmerge: false })
  const { plugged } = vision
  const encoder = plugged
    ? {
        tokens: plugged.tokensIn,
        layers: plugged.layers,
        width: plugged.width,
        heads: plugged.heads,
        mlpWidth: 4 * plugged.width,
      }
    : { tokens: 1, layers: 0, width: 1, heads: 1, mlpWidth: 1 }
  return {
    id: basename(resolve(folder)),
    folder,
    family,
    picture,
    ...(vision.patch && { patch: vision.patch }),
    ...(vision.refused && { unpruned: vision.refused }),
    encoder,
    levels: plugged
      ? await readLevels(folder, encoder)
      : [{ r: [], weight: [], tokensOut: encoder.tokens, pruneRatio: 0, flopShare: 1 }],
    ...(vision.refused !== undefined && { unpruned: vision.refused }),
    batchInvariant: vision.batchInvariant,
    follows: 'none',
    maxPictures: 1,
    encode: async () => ({ ids: [], places: [] }),
    decode: () => '',
    describe,
    endIds: [],
    generation: greedy(1),
    maxTokens: 1,
    honours: [],
    runner: {
      kind: 'tagger',
      lengths: 'equal',
      vision: { unit: [picture.side, picture.side, 3], output: vision.output },
    },
    dtype: 'fp32',
    weightFiles: [relative(folder, file), 'selected_tags.csv'],
    buildSessions: async (options) => ({ vision: { graph: await vision.build(options), folder: weights } }),
    selfTest: async (options) => {
      const { dims } = await vision.test(wholePicture, options)
      if (dims.length !== 2 || dims[1] !== tags.length)
        throw new ModelFolderError(
          `${folder}: the model gives scores [${dims}] for the ${tags.length} tags of selected_tags.csv. Pull the model again.`,
        )
    },
  }
}
