import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { ModelProto } from '../../onnx/proto.ts'
import type * as PlugIn from '../../turbo/plug/plug-in.ts'
import { openModel } from '../open-model.ts'

let isWrong = false
afterEach(() => {
  isWrong = false
})

/** A graph whose outputs are twice what they were. */
function doubled({ graph, ...model }: ModelProto): ModelProto {
  const outputs = graph.output.map(({ name }) => name)
  const renamed = (name: string) => (outputs.includes(name) ? `half/${name}` : name)
  const node = graph.node.map((each) => ({
    ...each,
    input: each.input.map(renamed),
    output: each.output.map(renamed),
  }))
  const sums = outputs.map((name) => ({
    opType: 'Add',
    input: [renamed(name), renamed(name)],
    output: [name],
  }))
  return { ...model, graph: { ...graph, node: [...node, ...sums] } }
}

vi.mock('../../turbo/plug/plug-in.ts', async (original) => {
  const { plugTurbo, ...others } = await original<typeof PlugIn>()
  return {
    ...others,
    async plugTurbo(...given: Parameters<typeof plugTurbo>) {
      const plugged = await plugTurbo(...given)
      return isWrong ? { ...plugged, model: doubled(plugged.model) } : plugged
    },
  }
})

describe.each(['vit-gpt2', 'smolvlm', 'wd-tagger'])('the self-test of %s', (name) => {
  const folder = fileURLToPath(new URL(`../../../test/fixtures/models/${name}`, import.meta.url))
  const tested = async () => (await openModel(folder)).selfTest!({ session: { intraOpNumThreads: 1 } })

  it('refuses an encoder that gives other numbers than its file where nothing merges', async () => {
    isWrong = true
    await expect(tested()).rejects.toThrow(/with Turbo in it, the encoder differs by/)
  })

  it('passes the right one', tested)
})
