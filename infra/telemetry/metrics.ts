import {
  Counter,
  type CounterConfiguration,
  collectDefaultMetrics,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type HistogramConfiguration,
  Registry,
} from 'prom-client'

/**
 * Makes the metrics of one service and renders them in Prometheus' text format. Names get the prefix `turbine_`.
 * A metric is made, and recorded, where the event happens.
 */
export interface Metrics {
  counter<T extends string = never>(options: CounterConfiguration<T>): Counter<T>
  gauge<T extends string = never>(options: GaugeConfiguration<T>): Gauge<T>
  histogram<T extends string = never>(options: HistogramConfiguration<T>): Histogram<T>
  /** The content type of what `render` gives. */
  readonly contentType: string
  render(): Promise<string>
}

/**
 * @param options.process whether to add the metrics of the process (memory, CPU time, event loop); default true
 * @example
 * const metrics = createMetrics()
 * const images = metrics.counter({ name: 'images_total', help: 'Images captioned.', labelNames: ['lane'] })
 * images.inc({ lane: 'batch' })
 */
export function createMetrics({ process = true }: { process?: boolean } = {}): Metrics {
  const registry = new Registry()
  if (process) collectDefaultMetrics({ register: registry })
  const named = <T extends { name: string }>(options: T) => ({
    ...options,
    name: `turbine_${options.name}`,
    registers: [registry],
  })
  return {
    counter: (options) => new Counter(named(options)),
    gauge: (options) => new Gauge(named(options)),
    histogram: (options) => new Histogram(named(options)),
    contentType: registry.contentType,
    render: () => registry.metrics(),
  }
}
