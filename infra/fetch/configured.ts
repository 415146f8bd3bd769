import type { Config } from '../config.ts'
import { HostPaces, type HostPacesOptions } from './host-paces.ts'
import { type NodeImageSourceOptions, openImageSource } from './node.ts'
import { webSettings } from './web-settings.ts'

export interface ConfiguredImagesOptions
  extends Pick<NodeImageSourceOptions, 'maxBytes' | 'buckets' | 'readFile'>,
    Pick<HostPacesOptions, 'silentMs' | 'refusingMs'> {
  config: Config
  /** Of Turbine. */
  version: string
}

/** Images at addresses, and how fast their hosts are asked. */
export type Images = ReturnType<typeof openConfiguredImages>

/** How fast hosts are asked: one for all that a process fetches. */
export function hostPaces(
  { hostConcurrency: concurrency, hostRate: rate, hostPatience = Number.POSITIVE_INFINITY }: Config,
  { silentMs = hostPatience, refusingMs }: Pick<HostPacesOptions, 'silentMs' | 'refusingMs'> = {},
): HostPaces {
  return new HostPaces({ concurrency, rate, silentMs, ...(refusingMs !== undefined && { refusingMs }) })
}

/** The image source of a process: one for all that it fetches, so that each host sees one pace. */
export function openConfiguredImages({
  config,
  version,
  silentMs,
  refusingMs,
  ...options
}: ConfiguredImagesOptions) {
  const hosts = hostPaces(config, { silentMs, refusingMs })
  const source = openImageSource({ ...options, ...webSettings(config, version), hosts })
  return { ...source, hosts }
}
