import { expect, test } from 'vitest'
import { drawMerges } from './merge-picture.ts'

/** A row of grey patches of 8 x 8 pixels; CLS is token 0. */
function draw(greys: number[], tokens: number[]) {
  const patch = 8
  const width = greys.length * patch
  const pixels = new Uint8Array(patch * width * 3)
  for (let y = 0; y < patch; y++)
    for (let x = 0; x < width; x++)
      pixels.fill(greys[Math.floor(x / patch)]!, (y * width + x) * 3, (y * width + x + 1) * 3)
  const source = BigInt64Array.of(0n, ...tokens.map(BigInt))
  const picture = drawMerges({ pixels, height: patch, width, patch, source }, { scale: 2, tint: 0.5 })
  /** Grey of a pixel in the middle row, at a place measured in patches. */
  const at = (x: number) => picture.pixels[(patch * picture.width + Math.round(x * patch * 2)) * 3]
  return { picture, at }
}

test('the picture is enlarged', () => {
  const { picture } = draw([10, 20], [1, 2])
  expect([picture.height, picture.width, picture.pixels.length]).toEqual([16, 32, 16 * 32 * 3])
})

test('patches of one token go half way to their mean, the others keep their colour', () => {
  const { at } = draw([100, 50, 60], [1, 2, 1])
  expect(at(0.5)).toBe(90)
  expect(at(2.5)).toBe(70)
  expect(at(1.5)).toBe(50)
})

test('a merged region has an outline, and none inside', () => {
  const { at } = draw([100, 100, 100], [1, 1, 2])
  expect(at(0.99)).toBe(100)
  expect(at(1.95)).toBe(255)
  expect(at(2)).toBe(255)
})

test('between patches that stayed alone the line is faint; on bright patches lines are dark', () => {
  expect(draw([100, 100], [1, 2]).at(1)).toBe(131)
  expect(draw([200, 200, 200], [1, 1, 2]).at(2)).toBe(0)
})
