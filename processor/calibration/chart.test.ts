import { expect, it } from 'vitest'
import { drawSvg } from '../../infra/plot/svg.ts'
import { levelsChart } from './chart.ts'

const point = (flopShare: number, exact: number) => ({ flopShare, quality: { exact, cider: exact } })

it('draws candidates as points and the levels as a line with their numbers', async () => {
  const svg = await drawSvg(
    levelsChart({
      model: 'tiny',
      candidates: [point(0.8, 1), point(0.6, 0.99), point(0.6, 0.99), point(0.4, 0.9), point(0.3, 0.1)],
      levels: [point(1, 1), point(0.8, 1), point(0.4, 0.92)],
    }),
  )
  expect(svg).toContain('Prune levels of tiny')
  // Those that lie on each other are one, and one far below is left out.
  expect(svg.match(/fill="#9aa5b1"/g)).toHaveLength(3)
  for (const level of [0, 1, 2]) expect(svg).toContain(`>${level}</text>`)
})
