import ipaddr from 'ipaddr.js'

/** Whether a host name or address, with or without brackets, is this machine only. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1')
  if (name === 'localhost' || name.endsWith('.localhost')) return true
  return ipaddr.isValid(name) && ipaddr.process(name).range() === 'loopback'
}

/**
 * Whether a request was made on this machine, by what it says of itself: to a loopback host, and not from a web page
 * of another site. The first also stops names that were rebound to this machine, the second pages that post to it.
 */
export function isLocalRequest({ url, headers }: Pick<Request, 'url' | 'headers'>): boolean {
  const origin = headers.get('origin')
  return isLoopbackHost(new URL(url).hostname) && (origin === null || isLoopbackOrigin(origin))
}

const isLoopbackOrigin = (origin: string) => URL.canParse(origin) && isLoopbackHost(new URL(origin).hostname)
