import { type LookupAddress, type LookupOptions, promises } from 'node:dns'

/** Resolves a name to all of its addresses, as `dns.lookup` does with `all: true`. */
export type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** Time limit of one question to a name server, ms, and how often it is asked. */
const question = { timeout: 2_000, tries: 2 }

/**
 * Asks the network's name servers. Unlike the system's resolver it takes no thread of Node's few, which name servers
 * that never answer would hold, and with them every file that is read. It knows no names of the machine itself.
 * @param servers `address:port`; default: those that the system is told to ask
 */
export function networkLookup(servers?: string[]): Lookup {
  const resolver = new promises.Resolver(question)
  if (servers) resolver.setServers(servers)
  const ask = async (hostname: string): Promise<LookupAddress[]> => {
    const answers = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)])
    const found = answers.flatMap((answer, i) =>
      answer.status === 'fulfilled'
        ? answer.value.map((address) => ({ address, family: i === 0 ? 4 : 6 }))
        : [],
    )
    const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []))
    // Only if both answers say so, there is no address; else a name server failed.
    if (found.length === 0 && failures.length > 0) throw failures.find(hasFailed) ?? failures[0]
    return found
  }
  return (hostname, _, callback) => {
    ask(hostname).then(
      (addresses) => callback(null, addresses),
      (error) => callback(error, []),
    )
  }
}

const hasFailed = ({ code }: NodeJS.ErrnoException) => code !== 'ENOTFOUND' && code !== 'ENODATA'

export interface CachedLookupOptions {
  /** Time for which addresses are used again, ms; default 10,000. */
  freshMs?: number
  /** Names remembered at most; default 1,000. */
  names?: number
  /** Unix ms; default: the machine's clock. */
  now?(): number
}

/** Looks a name up once for all connections that need it at about the same time. Failures are not remembered. */
export function cachedLookup(lookup: Lookup, options: CachedLookupOptions = {}): Lookup {
  const { freshMs = 10_000, names = 1_000, now = Date.now } = options
  const known = new Map<string, { addresses: Promise<LookupAddress[]>; until: number }>()
  const ask = (hostname: string) =>
    new Promise<LookupAddress[]>((resolve, reject) => {
      lookup(hostname, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)))
    })
  return (hostname, _, callback) => {
    let entry = known.get(hostname)
    if (!entry || now() >= entry.until) {
      entry = { addresses: ask(hostname), until: now() + freshMs }
      entry.addresses.catch(() => known.delete(hostname))
      known.delete(hostname)
      known.set(hostname, entry)
      if (known.size > names) known.delete(known.keys().next().value!)
    }
    entry.addresses.then(
      (addresses) => callback(null, addresses),
      (error) => callback(error, []),
    )
  }
}
