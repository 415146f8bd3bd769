import { Tensor } from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { Graph } from '../../onnx/graph.ts'
import type { Shape } from '../../onnx/operators.ts'
import { type DataType, decodeModel, encodeModel, type ModelProto } from '../../onnx/proto.ts'
import { openSession } from '../../onnx/session.ts'
import { type PixelLayout, withUint8Pixels } from './pixels.ts'

/** A session that gives back what it is given. */
function echo(inputs: Record<string, { type: DataType; shape: Shape }>): ModelProto {
  const g = new Graph()
  for (const [name, { type, shape }] of Object.entries(inputs)) {
    const value = g.input(name, type, shape)
    g.output(`${name}_out`, type === 'float16' ? g.cast(value, 'float32') : value, shape)
  }
  return decodeModel(g.toModel())
}

async function run(model: ModelProto, pixels: number[], dims: number[]) {
  const session = await openSession(encodeModel(model), '.')
  expect(session.inputNames).toEqual(['pixels'])
  const outputs = await session.run({ pixels: new Tensor('uint8', Uint8Array.from(pixels), dims) })
  await session.release()
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data, dims }]) => [
      name,
      { dims: [...dims], data: Array.from(data as ArrayLike<number>, Number) },
    ]),
  )
}

const clip = { rescale: 1 / 255, mean: [0.5, 0.4, 0.3], std: [0.25, 0.2, 0.1] }
const normal = (level: number, channel: number) => (level / 255 - clip.mean[channel]!) / clip.std[channel]!
// Two images of 1 x 2 pixels.
const levels = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 255]
const channelsFirst = [0, 1].flatMap((image) =>
  [0, 1, 2].flatMap((channel) =>
    [0, 1].map((column) => normal(levels[image * 6 + column * 3 + channel]!, channel)),
  ),
)

const close = (actual: number[], expected: number[], digits = 5) => {
  expect(actual).toHaveLength(expected.length)
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, digits)
}

describe('withUint8Pixels', () => {
  it.each<[DataType, number]>([
    ['float32', 5],
    ['float16', 2],
  ])('normalises images for an input of %s', async (type, digits) => {
    const model = echo({ pixel_values: { type, shape: ['b', 3, 'h', 'w'] } })
    const { pixel_values_out: out } = await run(
      withUint8Pixels(model, { ...clip, layout: 'image' }),
      levels,
      [2, 1, 2, 3],
    )
    expect(out!.dims).toEqual([2, 3, 1, 2])
    close(out!.data, channelsFirst, digits)
  })

  it.each<DataType>(['bool', 'int64'])('makes tiles one row, and their mask of %s ones', async (type) => {
    const model = echo({
      pixel_values: { type: 'float32', shape: ['b', 'n', 3, 'h', 'w'] },
      pixel_attention_mask: { type, shape: ['b', 'n', 'h', 'w'] },
    })
    const plan: PixelLayout = { ...clip, layout: 'tiles', mask: 'pixel_attention_mask' }
    const out = await run(withUint8Pixels(model, plan), levels, [2, 1, 2, 3])
    expect(out.pixel_values_out!.dims).toEqual([1, 2, 3, 1, 2])
    close(out.pixel_values_out!.data, channelsFirst)
    expect(out.pixel_attention_mask_out).toEqual({ dims: [1, 2, 1, 2], data: [1, 1, 1, 1] })
  })

  it('gives blue first and grey levels as they are', async () => {
    const model = echo({ 'input:0': { type: 'float32', shape: ['b', 'h', 'w', 3] } })
    const plan: PixelLayout = { layout: 'bgr', rescale: 1, mean: [0, 0, 0], std: [1, 1, 1] }
    const out = await run(withUint8Pixels(model, plan), levels, [2, 1, 2, 3])
    expect(out['input:0_out']).toEqual({
      dims: [2, 1, 2, 3],
      data: [30, 20, 10, 60, 50, 40, 90, 80, 70, 255, 110, 100],
    })
  })

  it('gives every patch twice in time', async () => {
    const model = echo({ pixel_values: { type: 'float32', shape: ['patches', 12] } })
    const plan: PixelLayout = { ...clip, layout: 'patches' }
    const out = await run(withUint8Pixels(model, plan), levels, [2, 6])
    const row = (patch: number) =>
      [0, 1, 2].flatMap((channel) =>
        [0, 1].flatMap(() => [0, 1].map((i) => normal(levels[patch * 6 + channel * 2 + i]!, channel))),
      )
    expect(out.pixel_values_out!.dims).toEqual([2, 12])
    close(out.pixel_values_out!.data, [...row(0), ...row(1)])
  })

  it('names the input that is missing', () => {
    const model = echo({ other: { type: 'int64', shape: [1] } })
    expect(() => withUint8Pixels(model, { ...clip, layout: 'image' })).toThrow(
      /no input pixel_values of float numbers, only other/,
    )
    const image = echo({ pixel_values: { type: 'float32', shape: ['b', 3, 'h', 'w'] } })
    expect(() => withUint8Pixels(image, { ...clip, layout: 'tiles', mask: 'mask' })).toThrow(/no input mask/)
  })
})
