import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'
import { buildConnector } from 'undici'

/** Whether an IP address may be connected to. */
export type AddressPolicy = (address: string) => boolean

/** Resolves a name to all of its addresses, as `dns.lookup` does with `all: true`. */
export type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** The name or address of a URL leads to an address that may not be connected to. */
export class RefusedAddressError extends Error {
  override readonly name = 'RefusedAddressError'
  readonly retriable = false
}

export interface GuardedConnectorOptions {
  allows: AddressPolicy
  /** Default: the system's resolver. */
  lookup?: Lookup
  /** Time to connect, ms. */
  timeoutMs: number
}

/**
 * A connector for undici that connects to allowed addresses only. The check is on the addresses that the socket is
 * given, after the name was resolved and before a packet is sent, so a name whose addresses change between a check
 * and the connection (DNS rebinding) cannot get past it. A name that has a refused address is refused as a whole.
 */
export function guardedConnector(options: GuardedConnectorOptions): buildConnector.connector {
  const { allows, lookup = systemLookup as Lookup, timeoutMs } = options
  const connect = buildConnector({ timeout: timeoutMs, lookup: guardedLookup(allows, lookup) })
  return (target, callback) => {
    const host = target.hostname.replace(/^\[(.*)\]$/, '$1')
    // A literal address is not looked up.
    if (isIP(host) && !allows(host)) callback(new RefusedAddressError(host), null)
    else connect(target, callback)
  }
}

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  addresses: LookupAddress[] | string,
  family?: number,
) => void

function guardedLookup(allows: AddressPolicy, lookup: Lookup) {
  return (hostname: string, options: LookupOptions, callback: LookupCallback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, [])
      const refused = addresses.find(({ address }) => !allows(address))
      if (refused) return callback(new RefusedAddressError(refused.address), [])
      if (options.all) return callback(null, addresses)
      const [first] = addresses
      if (!first) return callback(new Error(`${hostname} has no address`), [])
      callback(null, first.address, first.family)
    })
  }
}
