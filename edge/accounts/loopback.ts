import ipaddr from 'ipaddr.js'

/** Accepts a host name or address, with or without brackets. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1')
  if (name === 'localhost' || name.endsWith('.localhost')) return true
  return ipaddr.isValid(name) && ipaddr.process(name).range() === 'loopback'
}

/**
 * Recognises a request from this machine: to a loopback host, and not from a web page of another site. The first also
 * stops DNS rebinding, the second cross-site posts.
 */
export function isLocalRequest({ url, headers }: Pick<Request, 'url' | 'headers'>): boolean {
  const origin = headers.get('origin')
  return isLoopbackHost(new URL(url).hostname) && (origin === null || isLoopbackOrigin(origin))
}

const isLoopbackOrigin = (origin: string) => URL.canParse(origin) && isLoopbackHost(new URL(origin).hostname)
