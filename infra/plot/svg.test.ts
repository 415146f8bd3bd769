import { expect, test } from 'vitest'
import { drawSvg } from './svg.ts'

const values = [
  { second: 0, images: 12 },
  { second: 1, images: 30 },
]
const encoding = {
  x: { field: 'second', type: 'quantitative' },
  y: { field: 'images', type: 'quantitative' },
} as const

test('draws a line through all values, with its axes named', async () => {
  const svg = await drawSvg({ data: { values }, mark: 'line', encoding })
  expect(svg).toMatch(/^<svg /)
  expect(svg).toContain('>second<')
  expect(svg).toContain('>images<')
  const path = /aria-roledescription="line mark"[^>]* d="([^"]+)"/.exec(svg)
  expect(path?.[1]).toMatch(/^M[\d.,]+L[\d.,]+$/)
})
