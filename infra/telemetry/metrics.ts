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
 * Creates the metrics of one service and renders them in Prometheus' text format. Names get the prefix `turbine_`.
 */
export interface Metrics {
  counter<T extends string = never>(options: CounterConfiguration<T>): Counter<T>
  gauge<T extends string = never>(options: GaugeConfiguration<T>): Gauge<T>
  histogram<T extends string = never>(options: HistogramConfiguration<T>): Histogram<T>
  /** Content type of `render`'s text. */
  readonly contentType: string
  render(): Promise<string>
}

/**
 * @param options.process adds the metrics of the process (memory, CPU time, event loop); default true
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
