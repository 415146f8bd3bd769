import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { decodeModel, encodeModel, type ModelProto } from '../../onnx/proto.ts'
import { ModelFolderError } from '../../onnx/weights.ts'
import {
  type Family,
  generateGraph,
  openFamily,
  openFamilyGenerator,
  openOriginals,
  startIds,
} from './families.fixture.ts'
import { firstDifference, selfTest } from './self-test.ts'

let copied: string | undefined
afterEach(async () => {
  if (copied) await rm(copied, { recursive: true })
  copied = undefined
})

/** A family whose files can be changed. */
async function copyOf(name: string): Promise<Family> {
  const family = openFamily(name)
  copied = await mkdtemp(join(tmpdir(), 'turbine-family-'))
  await cp(join(family.folder, 'onnx'), join(copied, 'onnx'), { recursive: true })
  return { ...family, folder: copied }
}

async function edit({ folder }: Family, file: string, change: (model: ModelProto) => void): Promise<void> {
  const path = join(folder, 'onnx', file)
  const model = decodeModel(await readFile(path))
  change(model)
  await writeFile(path, encodeModel(model))
}

const decoder = 'decoder_model_merged.onnx'

describe('selfTest', () => {
  it.each(['smolvlm', 'llava', 'qwen2-vl', 'vit-gpt2'])('passes %s', async (name) => {
    const family = openFamily(name)
    const { generator, metadata } = await openFamilyGenerator(family)
    const originals = await openOriginals(family)
    await selfTest({ folder: family.folder, generator, metadata, originals, startIds: startIds(family) })
  })

  it('refuses ids that differ, in one line', async () => {
    const family = openFamily('smolvlm')
    const { generator, metadata } = await openFamilyGenerator(family)
    const originals = await openOriginals(family)
    const wrong: typeof generator = {
      async generate(rows) {
        const results = await generator.generate(rows)
        return results.map(({ ids, ended }) => ({ ids: ids.with(5, (ids[5]! + 1) % 300), ended }))
      },
    }
    const tested = selfTest({ folder: family.folder, generator: wrong, metadata, originals })
    await expect(tested).rejects.toThrow(ModelFolderError)
    await expect(selfTest({ folder: family.folder, generator: wrong, metadata, originals })).rejects.toThrow(
      /^[^\n]*other ids inside of a loop than step by step, from id 6 on[^\n]*$/,
    )
  })

  it('takes near ties for equal', () => {
    const logits = [Float32Array.of(10, 1, 9.95), Float32Array.of(10, 9, 1)]
    const steps = { ids: [0, 0], logits }
    expect(firstDifference([0, 0], steps)).toBeUndefined()
    expect(firstDifference([2, 1], steps)).toBeUndefined()
    expect(firstDifference([0, 1], steps)).toBe(1)
    expect(firstDifference([1, 0], steps)).toBe(0)
    expect(firstDifference([0], steps)).toBe(1)
    expect(firstDifference([0, 0, 0], steps)).toBe(2)
    expect(firstDifference([0, 99], steps)).toBe(1)
  })
})

describe('a file that cannot be used is refused in one line', () => {
  const rejected = (family: Family): string => {
    try {
      generateGraph(family)
    } catch (error) {
      expect(error).toBeInstanceOf(ModelFolderError)
      expect((error as Error).message).not.toContain('\n')
      return (error as Error).message
    }
    return 'taken'
  }

  it.each<[string, string, string, (model: ModelProto) => void, RegExp]>([
    [
      'an input of the decoder that is not known',
      'smolvlm',
      decoder,
      ({ graph }) => {
        graph.input.push({ ...graph.input[0]!, name: 'per_layer_inputs' })
      },
      /needs the input per_layer_inputs, which is not known/,
    ],
    [
      'an input of the embeddings that is not known',
      'smolvlm',
      'embed_tokens.onnx',
      ({ graph }) => {
        graph.input.push({ ...graph.input[0]!, name: 'more' })
      },
      /needs the input more/,
    ],
    [
      'no caches',
      'llava',
      decoder,
      ({ graph }) => {
        graph.output = graph.output.filter(({ name }) => name === 'logits')
      },
      /has no caches/,
    ],
    [
      'a cache that does not come back',
      'llava',
      decoder,
      ({ graph }) => {
        graph.input = graph.input.filter(({ name }) => name !== 'past_key_values.0.key')
      },
      /has no input past_key_values\.0\.key/,
    ],
    [
      'no logits',
      'llava',
      decoder,
      ({ graph }) => {
        graph.output = graph.output.filter(({ name }) => name !== 'logits')
      },
      /has no output logits/,
    ],
    [
      'inputs of no type',
      'llava',
      decoder,
      ({ graph }) => {
        delete graph.input[0]!.type
      },
      /of a type that cannot be used/,
    ],
    [
      'sizes that it does not tell',
      'llava',
      decoder,
      ({ graph }) => {
        const cache = graph.input.find(({ name }) => name === 'past_key_values.0.key')!
        cache.type!.tensorType!.shape!.dim[1] = { dimParam: 'heads' }
      },
      /does not tell the sizes of past_key_values\.0\.key/,
    ],
    [
      'a decoder that is not merged',
      'vit-gpt2',
      decoder,
      ({ graph }) => {
        graph.node[0]!.input[0] = 'other'
      },
      /is no merged decoder/,
    ],
    [
      'operators of the future',
      'smolvlm',
      decoder,
      (model) => {
        model.opsetImport = [{ domain: '', version: 99 }]
      },
      /uses version 99 of ONNX's operators/,
    ],
    [
      'nodes in a circle',
      'smolvlm',
      decoder,
      ({ graph }) => {
        graph.node[0]!.input = [graph.node.at(-1)!.output[0]!]
        graph.node.at(-1)!.input.push(graph.node[0]!.output[0]!)
      },
      /circular/,
    ],
  ])('for %s', async (_, name, file, change, message) => {
    const family = await copyOf(name)
    await edit(family, file, change)
    expect(rejected(family)).toMatch(message)
  })

  it('that is missing or cut short', async () => {
    const family = await copyOf('smolvlm')
    await truncate(join(family.folder, 'onnx', decoder), 300_000)
    expect(rejected(family)).toMatch(/decoder_model_merged\.onnx is cut short/)
    await rm(join(family.folder, 'onnx', decoder))
    expect(rejected(family)).toMatch(/decoder_model_merged\.onnx is missing/)
  })
})
