import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Graph } from './graph.ts'
import { decodeModel } from './proto.ts'
import { writeSafetensors } from './safetensors.ts'
import { openSession } from './session.ts'
import { ModelFolderError, Weights } from './weights.ts'

let folder: string
let weights: Weights
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weights-'))
  const file = join(folder, 'model.safetensors')
  await writeSafetensors(file, {
    scale: { type: 'F32', shape: [2], data: Float32Array.of(2, -3) },
    half: { type: 'F16', shape: [2], data: Float16Array.of(0.5, 4) },
    brain: { type: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc040) },
    ids: { type: 'I64', shape: [2], data: BigInt64Array.of(1n, 2n) },
  })
  weights = await Weights.open(file)
})
afterAll(() => rm(folder, { recursive: true }))

/** `x * weight` for x = [1, 10]. */
async function scaled(name: string, type: 'float32' | 'float16' = 'float32'): Promise<number[]> {
  const g = new Graph()
  const x = g.input('x', 'float32', [2])
  const weight = weights.load(g, name, [2], type)
  g.output('y', g.cast(g.mul(g.cast(x, type), weight), 'float32'), [2])
  const session = await openSession(g.toModel(), folder, { intraOpNumThreads: 1 })
  const { y } = await session.run({ x: new ort.Tensor('float32', Float32Array.of(1, 10), [2]) })
  return Array.from(y!.data as Float32Array)
}

describe('weights where they lie', () => {
  it('are read from the file beside the graph', async () => {
    expect(await scaled('scale')).toEqual([2, -30])
  })

  it('are computed in the type asked for, however they are stored', async () => {
    expect(await scaled('half')).toEqual([0.5, 40])
    expect(await scaled('brain')).toEqual([1, -30])
    expect(await scaled('scale', 'float16')).toEqual([2, -30])
    expect(await scaled('brain', 'float16')).toEqual([1, -30])
  })

  it('keep the graph small', () => {
    const g = new Graph()
    g.output('y', weights.load(g, 'scale', [2], 'float32'), [2])
    expect(g.toModel().length).toBeLessThan(400)
  })

  it.each<[string, string, number[], string]>([
    ['that are missing', 'shift', [2, 3], 'lacks the tensor shift [2, 3]'],
    ['of another shape', 'scale', [1, 2], 'tensor scale has shape [2], but config.json asks for [1, 2]'],
    ['of whole numbers', 'ids', [2], 'tensor ids has type I64; F32, F16 and BF16 can be used'],
  ])('refuse ones %s', (_, name, shape, message) => {
    const load = () => weights.load(new Graph(), name, shape, 'float32')
    expect(load).toThrow(ModelFolderError)
    expect(load).toThrow(message)
  })
})

describe('openSession', () => {
  const graph = () => {
    const g = new Graph()
    g.output('y', weights.load(g, 'scale', [2], 'float32'), [2])
    return g.toModel()
  }

  it('fails when the weights are not in the folder', async () => {
    await expect(openSession(graph(), join(folder, 'elsewhere'), { logSeverityLevel: 4 })).rejects.toThrow()
  })

  it('keeps the folder when the caller has session settings of its own', async () => {
    const extra = { session: { disable_prepacking: '1' } }
    const session = await openSession(graph(), folder, { extra })
    expect((await session.run({})).y!.data).toEqual(Float32Array.of(2, -3))
  })

  it('leaves additions and layer norms apart, which are slow as one operator', async () => {
    const g = new Graph()
    const sum = g.add(g.input('x', 'float32', [1, 1, 2]), g.input('y', 'float32', [1, 1, 2]))
    g.output(
      'normed',
      g.layerNorm(sum, weights.load(g, 'scale', [2], 'float32'), g.floats([0, 0]), 1e-5),
      [1, 1, 2],
    )
    const optimizedModelFilePath = join(folder, 'optimized.onnx')
    const session = await openSession(g.toModel(), folder, { optimizedModelFilePath, logSeverityLevel: 4 })
    await session.release()
    const { graph } = decodeModel(await readFile(optimizedModelFilePath))
    expect(graph.node.map(({ opType }) => opType)).toEqual(['Add', 'LayerNormalization'])
  })
})
