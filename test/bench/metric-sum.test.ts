import { expect, test } from 'vitest'
import { metricSum } from './metric-sum.ts'

const text = `# HELP turbine_images_total Images captioned, by lane and prune level.
# TYPE turbine_images_total counter
turbine_images_total{lane="batch",level="0"} 10
turbine_images_total{lane="batch",level="1"} 5
turbine_images_total{lane="interactive",level="0"} 100
turbine_images_total_more{lane="batch"} 1000
turbine_up 1.5e3
`

test('adds up the series that have the labels', () => {
  expect(metricSum(text, 'turbine_images_total', { lane: 'batch' })).toBe(15)
  expect(metricSum(text, 'turbine_images_total', { lane: 'batch', level: '1' })).toBe(5)
  expect(metricSum(text, 'turbine_images_total')).toBe(115)
})

test('reads a metric without labels, and 0 where there is none', () => {
  expect(metricSum(text, 'turbine_up')).toBe(1500)
  expect(metricSum(text, 'turbine_down')).toBe(0)
})
