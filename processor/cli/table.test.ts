import { expect, test } from 'vitest'
import { formatTable } from './table.ts'

test('columns are aligned, numbers to the right, and lines have no spaces at their ends', () => {
  const rows = [['starter', '2', 'a'], ['blip', '990', ''], ['last']]
  expect(formatTable(rows, { right: [1] })).toBe('starter    2  a\nblip     990\nlast\n')
})

test('no rows are no lines', () => expect(formatTable([])).toBe(''))
