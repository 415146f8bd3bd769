import { expect, it } from 'vitest'
import { wholePicture } from '../models/pictures.ts'
import { filledUp, toBatches } from './pictures.ts'

it('fills batches in order, the last one with the rest', () => {
  const pictures = [1, 2, 3].map((value) => ({
    pixels: new Uint8Array(new SharedArrayBuffer(6)).fill(value),
    shape: wholePicture,
  }))
  const batches = toBatches(pictures, 2)
  expect(batches.map(({ count }) => count)).toEqual([2, 1])
  expect(batches.flatMap(({ pictures }) => pictures)).toEqual(pictures)
  expect(filledUp({ pictures, count: 3 }, 5).pictures.map(({ pixels }) => pixels[0])).toEqual([1, 2, 3, 1, 2])
})
