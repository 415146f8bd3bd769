import { describe, expect, it } from 'vitest'
import { dataTypes } from '../proto.ts'
import { largestWhole, roundMatrix, toFloat32 } from './round.ts'

/** Numbers below 1, those of a channel of their own size. */
const number = (output: number, input: number) => Math.sin(output * 31 + input * 7) / (1 + (output % 5))

function matrix(outputs: number, inputs: number, outputsFirst: boolean, first = 0) {
  const [rows, columns] = outputsFirst ? [outputs, inputs] : [inputs, outputs]
  const elements = Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    return outputsFirst ? number(first + row, column) : number(first + column, row)
  })
  return { elements, rows, columns }
}

const to = 150
const from = 37

describe.each(Object.entries(largestWhole))('whole numbers of a range that is %s', (_, most) => {
  it.each([
    ['as PyTorch stores it', [matrix(to, from, true)], true],
    ['as exports store it', [matrix(to, from, false)], false],
    ['in parts', [matrix(100, from, true), matrix(50, from, true, 100)], true],
  ])('are within half of a scale of the weight, %s', (_, parts, outputsFirst) => {
    const { values, scales } = roundMatrix(parts, { outputsFirst, to, from, most })
    for (let output = 0; output < to; output++) {
      let largest = 0
      for (let input = 0; input < from; input++) {
        const whole = values[input * to + output]!
        largest = Math.max(largest, Math.abs(whole))
        expect(Math.abs(whole * scales[output]! - number(output, input))).toBeLessThan(
          0.501 * scales[output]!,
        )
      }
      expect(largest).toBe(most)
    }
  })
})

it('rounds a channel of zeros to zeros', () => {
  const part = { elements: new Float32Array(8), rows: 2, columns: 4 }
  const { values, scales } = roundMatrix([part], { outputsFirst: true, to: 2, from: 4, most: 127 })
  expect([...values, ...scales]).toEqual(new Array(10).fill(0))
})

it('has a range whose pairs of products fit into 16 bits', () => {
  expect(2 * 255 * largestWhole.saturating).toBeLessThan(2 ** 15)
  expect(2 * 255 * largestWhole.exact).toBeGreaterThan(2 ** 15)
})

it.each([
  ['float32', new Float32Array([1.5, -2, 0.25])],
  ['float16', new Uint16Array([0x3e00, 0xc000, 0x3400])],
  ['bfloat16', new Uint16Array([0x3fc0, 0xc000, 0x3e80])],
] as const)('reads %s', (type, stored) => {
  expect([...toFloat32(new Uint8Array(stored.buffer), dataTypes[type])]).toEqual([1.5, -2, 0.25])
})
