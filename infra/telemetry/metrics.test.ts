import { expect, test } from 'vitest'
import { createMetrics } from './metrics.ts'

test('renders what was recorded, under the prefix', async () => {
  const metrics = createMetrics({ process: false })
  const images = metrics.counter({ name: 'images_total', help: 'Images captioned.', labelNames: ['lane'] })
  images.inc({ lane: 'batch' }, 3)
  metrics.gauge({ name: 'queue_images', help: 'Images that wait.' }).set(7)
  metrics.histogram({ name: 'batch_images', help: 'Images of a batch.', buckets: [1, 8] }).observe(5)
  const text = await metrics.render()
  expect(text).toContain('turbine_images_total{lane="batch"} 3')
  expect(text).toContain('turbine_queue_images 7')
  expect(text).toContain('turbine_batch_images_bucket{le="8"} 1')
  expect(metrics.contentType).toContain('text/plain')
})

test('two services in one process do not share metrics', async () => {
  const first = createMetrics({ process: false })
  const second = createMetrics({ process: false })
  first.gauge({ name: 'queue_images', help: 'Images that wait.' }).set(1)
  second.gauge({ name: 'queue_images', help: 'Images that wait.' }).set(2)
  expect(await first.render()).toContain('turbine_queue_images 1')
})

test('adds the metrics of the process', async () => {
  expect(await createMetrics().render()).toContain('process_resident_memory_bytes')
})
