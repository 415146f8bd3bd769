import type { Config } from '../config.ts'
import type { WebOptions } from './web.ts'

/** What the settings say of addresses, for any platform. */
export const webSettings = (
  { imageTimeoutMs, allowPrivateUrls, allowHttpUrls, userAgent }: Config,
  version: string,
): Pick<WebOptions, 'timeoutMs' | 'allowPrivate' | 'allowHttp' | 'userAgent'> => ({
  timeoutMs: imageTimeoutMs,
  allowPrivate: allowPrivateUrls,
  allowHttp: allowHttpUrls,
  userAgent: userAgent ?? `Turbine/${version} (image captioning; contact: operator of this address)`,
})
