import { expect, test } from 'vitest'
import { formatBytes, formatDuration, formatRate, formatShare, formatTable, plural } from './format.ts'

test('numbers read well', () => {
  expect(formatDuration(11_400)).toBe('11 s')
  expect(formatDuration(200_000)).toBe('3 min 20 s')
  expect(formatDuration(93_720_000)).toBe('26 h 2 min')
  expect(formatBytes(0)).toBe('0 B')
  expect(formatBytes(990_000_000)).toBe('990 MB')
  expect(formatBytes(1_880_000_000)).toBe('1.9 GB')
  expect(formatRate(52.34)).toBe('52.3')
  expect(formatRate(1234.5)).toBe('1,235')
  expect(formatShare(0.999)).toBe('99 %')
  expect(formatShare(0.4898)).toBe('49 %')
  expect(formatShare(1)).toBe('100 %')
  expect(plural(1, 'image')).toBe('1 image')
  expect(plural(2000, 'image')).toBe('2,000 images')
})

test('columns are aligned, numbers to the right, and lines have no spaces at their ends', () => {
  const rows = [['starter', '2', 'a'], ['blip', '990', ''], ['last']]
  expect(formatTable(rows, { right: [1] })).toBe('starter    2  a\nblip     990\nlast\n')
})

test('no rows are no lines', () => expect(formatTable([])).toBe(''))
