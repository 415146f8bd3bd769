import { expect, it } from 'vitest'
import { toBatches } from './pictures.ts'

it('fills batches in order, the last one with room for the rest', () => {
  const image = { kind: 'squash', height: 1, width: 2, resample: 'bicubic' } as const
  const pictures = [1, 2, 3].map((value) => ({ pixels: new Uint8Array(6).fill(value) }))
  const batches = toBatches(pictures, { image, size: 2 })
  expect(batches.map(({ count }) => count)).toEqual([2, 1])
  expect(batches.map(({ pixels }) => [...pixels].filter((_, i) => i % 6 === 0))).toEqual([
    [1, 2],
    [3, 0],
  ])
})
