import type { Metrics } from '../../infra/telemetry/metrics.ts'
import type { Loading } from './loading.ts'

/** Metrics of what reads images: pass `onRead` and `onCrash` to `openLoading`, and what it opens to `watch`. */
export function measureLoaders(metrics: Metrics) {
  const bytes = metrics.counter({
    name: 'image_bytes_read_total',
    help: 'Bytes of images that loaders have read.',
  })
  const crashes = metrics.counter({ name: 'loader_crashes_total', help: 'Loader restarts after a crash.' })
  let watched: Loading | undefined
  metrics.gauge({
    name: 'loader_busy_share',
    help: 'Share of its time in which a loader was busy since it started, 0 to 1; the rate of change of its parts tells more.',
    labelNames: ['loader'],
    collect() {
      for (const [index, { activeMs, idleMs }] of (watched?.loaders.busy ?? []).entries())
        this.set({ loader: index + 1 }, activeMs / Math.max(1, activeMs + idleMs))
    },
  })
  metrics.gauge({
    name: 'loader_images_reading',
    help: 'Images that loaders are reading.',
    collect() {
      this.set(watched?.loaders.reading ?? 0)
    },
  })
  return {
    onRead: (size: number) => bytes.inc(size),
    onCrash: () => crashes.inc(),
    watch(loading: Loading): void {
      watched = loading
    },
  }
}
