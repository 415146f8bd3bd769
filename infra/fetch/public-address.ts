import ipaddr from 'ipaddr.js'

/** Public addresses of IPv6: the global unicast block. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')
const nat64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96')
/** In a public range, but answered by the platform around a machine: Azure's wire server. Others' are in no such range. */
const platformAddresses: ReadonlySet<string> = new Set(['168.63.129.16'])

const isPublicIPv4 = (address: ipaddr.IPv4) =>
  address.range() === 'unicast' && !platformAddresses.has(address.toString())

/**
 * Checks that an IP address is in the public internet. Private, loopback, link-local, unique-local, carrier-grade
 * NAT, multicast, documentation, reserved and cloud platforms' addresses do not; an IPv6 address that carries an IPv4 address
 * (mapped, NAT64, 6to4) is as public as that one. Anything else is not public.
 */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false
  const parsed = ipaddr.parse(address)
  if (parsed instanceof ipaddr.IPv4) return isPublicIPv4(parsed)
  const carried = carriedIPv4(parsed)
  if (carried) return isPublicIPv4(carried)
  return parsed.range() === 'unicast' && parsed.match(globalUnicast)
}

/** Names that never lead into the internet (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`). */
const privateNames = /(^|\.)(localhost|local|internal|home\.arpa)$/

/** Checks that a URL's host is a public address, or a name that could have one. */
export function looksPublic(hostname: string): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  if (ipaddr.isValid(host)) return isPublicAddress(host)
  return host.includes('.') && !privateNames.test(host)
}

function carriedIPv4(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const bytes = address.toByteArray()
  if (address.isIPv4MappedAddress() || address.match(nat64)) return new ipaddr.IPv4(bytes.slice(12))
  return address.range() === '6to4' ? new ipaddr.IPv4(bytes.slice(2, 6)) : undefined
}
