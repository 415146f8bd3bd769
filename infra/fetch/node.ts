import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'
import { buildConnector, fetch } from 'undici'
import { nodeDecoders } from '../compression/node-decoders.ts'
import { Connections, type ConnectionsOptions } from './connections.ts'
import { imageFaults } from './faults.ts'
import { createImageReader, type ImageReader, type ImageReaderOptions } from './image-reader.ts'
import { type ImageSource, imageSourceOf } from './image-source.ts'
import { cachedLookup, type Lookup, networkLookup } from './lookup.ts'
import { isPublicAddress } from './public-address.ts'
import type { WebRules } from './web.ts'

/** Decides which IP addresses may be connected to. */
export type AddressPolicy = (address: string) => boolean

export interface NodeImageReaderOptions extends Omit<ImageReaderOptions, 'fetch'> {
  /** Allows private addresses; default false. */
  allowPrivate?: boolean
  connections?: Omit<ConnectionsOptions, 'connect'>
  /** Default: public addresses, or all with `allowPrivate`. */
  allows?: AddressPolicy
  /** Resolves names; default: the network's name servers, or the system's resolver with `allowPrivate`. */
  lookup?: Lookup
}

export interface NodeImageSourceOptions extends NodeImageReaderOptions, WebRules {}

/**
 * An image source for Node: each address that is connected to is checked before anything is sent, redirects included.
 *
 * @example
 * const images = openImageSource({ maxBytes: 20 * 1024 * 1024 })
 * const bytes = await images.imageAt('https://example.com/photo.jpg', { granted, signal })
 */
export function openImageSource(options: NodeImageSourceOptions): {
  imageAt: ImageSource
  close(): Promise<void>
} {
  const { reader, close } = openImageReader(options)
  return { imageAt: imageSourceOf(reader, options), close }
}

/** What `openImageSource` reads with: whoever uses it decides before whether an address may be asked. */
export function openImageReader({
  allowPrivate,
  allows = allowPrivate ? () => true : isPublicAddress,
  lookup = allowPrivate ? (systemLookup as Lookup) : networkLookup(),
  connections,
  ...options
}: NodeImageReaderOptions): { reader: ImageReader; close(): Promise<void> } {
  const connect = guardedConnector(allows, cachedLookup(lookup), options.timeoutMs)
  const open = new Connections({ connect, ...connections })
  return {
    reader: createImageReader({
      decoders: nodeDecoders,
      ...options,
      fetch: (url, init) =>
        fetch(url, {
          ...(init as object),
          dispatcher: open.to(url.origin),
        }) as Promise<unknown> as Promise<Response>,
    }),
    close: () => open.destroy(),
  }
}

/**
 * A connector for undici that connects to allowed addresses only. The check is on the addresses that the socket is
 * given, after the name was resolved and before a packet is sent, so a name whose addresses change between a check
 * and the connection (DNS rebinding) cannot get past it. A name that has a refused address is refused as a whole.
 */
function guardedConnector(
  allows: AddressPolicy,
  lookup: Lookup,
  timeout: number | undefined,
): buildConnector.connector {
  const connect = buildConnector({ timeout, lookup: guardedLookup(allows, lookup) })
  return (target, callback) => {
    const host = target.hostname.replace(/^\[(.*)\]$/, '$1')
    // A literal address is not looked up.
    if (isIP(host) && !allows(host)) callback(imageFaults.refused(), null)
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
      if (addresses.some(({ address }) => !allows(address))) return callback(imageFaults.refused(), [])
      if (options.all) return callback(null, addresses)
      const [first] = addresses
      if (!first)
        return callback(Object.assign(new Error(`${hostname} has no address`), { code: 'ENODATA' }), [])
      callback(null, first.address, first.family)
    })
  }
}
