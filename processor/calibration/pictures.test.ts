import { expect, it } from 'vitest'
import { wholePicture } from '../models/pictures.ts'
import { toBatches } from './pictures.ts'

it('fills batches in order, the last one with the rest', () => {
  const pictures = [1, 2, 3].map((value) => ({
    pixels: new Uint8Array(new SharedArrayBuffer(6)).fill(value),
    shape: wholePicture,
  }))
  const batches = toBatches(pictures, 2)
  expect(batches.map(({ count }) => count)).toEqual([2, 1])
  expect(batches.flatMap(({ pictures }) => pictures)).toEqual(pictures)
})
