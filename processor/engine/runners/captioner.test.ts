import { describe, expect, it } from 'vitest'
import { greedy } from '../../models/generation.ts'
import { wholePicture } from '../../models/pictures.ts'
import { paddedRows, rowResults } from './captioner.ts'

const rowOf = (...ids: number[]) => ({
  pictures: [{ pixels: new Uint8Array(new SharedArrayBuffer(3)).fill(ids.at(-1)!), shape: wholePicture }],
  prompt: { ids, places: [] },
  settings: greedy(20),
})

describe('paddedRows', () => {
  it('fills up with the first row', () => {
    const rows = [rowOf(1, 10), rowOf(1, 11), rowOf(1, 12)]
    const padded = paddedRows({ rows, bucket: 4 })
    expect(padded.promptLength).toBe(2)
    expect(padded.rows).toEqual([...rows, rows[0]])
  })

  it.each([
    ['prompts of different lengths', [rowOf(1, 2), rowOf(1)]],
    ['prompts without a start id', [{ ...rowOf(1), prompt: { ids: [], places: [] } }]],
    ['nothing', []],
  ])('refuses %s', (_, rows) => {
    expect(() => paddedRows({ rows, bucket: 2 })).toThrow(RangeError)
  })
})

describe('rowResults', () => {
  const rows = (ids: number[], limits: number[], promptLength = 1) =>
    rowResults(BigInt64Array.from(ids, BigInt), { promptLength, limits, endId: 3 })

  it('cuts each row behind its end id', () => {
    expect(rows([1, 7, 3, 0, 1, 7, 8, 3], [20, 20])).toEqual([
      { ids: [7, 3], ended: true },
      { ids: [7, 8, 3], ended: true },
    ])
  })

  it('keeps a row that never ended whole', () => {
    expect(rows([1, 7, 8, 9], [20])).toEqual([{ ids: [7, 8, 9], ended: false }])
  })

  it('cuts a row at its own limit, where others went on', () => {
    expect(rows([1, 5, 7, 8, 0, 0, 1, 5, 7, 8, 9, 3], [2, 20], 2)).toEqual([
      { ids: [7, 8], ended: false },
      { ids: [7, 8, 9, 3], ended: true },
    ])
  })

  it('does not take an end id in the prompt for the end', () => {
    expect(rows([1, 3, 8, 3, 0], [20], 2)).toEqual([{ ids: [8, 3], ended: true }])
  })
})
