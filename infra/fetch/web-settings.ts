import type { Config } from '../config.ts'
import type { ImageSourceOptions } from './image-source.ts'

/** What the settings say of addresses, for any platform. */
export const webSettings = (
  { imageTimeoutMs, allowPrivateUrls, allowHttpUrls, userAgent }: Config,
  version: string,
): Pick<ImageSourceOptions, 'timeoutMs' | 'allowPrivate' | 'allowHttp' | 'userAgent'> => ({
  timeoutMs: imageTimeoutMs,
  allowPrivate: allowPrivateUrls,
  allowHttp: allowHttpUrls,
  userAgent: userAgent ?? `Turbine/${version} (image captioning; contact: operator of this address)`,
})
