import { readdir, readFile, readlink } from 'node:fs/promises'

/** What a process holds. */
export interface Holdings {
  rssMb: number
  /** Open file descriptors, sockets among them. */
  handles: number
  /** Connections to the store and to Kafka. */
  s3Sockets: number
  kafkaSockets: number
  /** Sockets whose other end is closed: a process that keeps them has forgotten them. */
  forgottenSockets: number
  children: number
  threads: number
}

export interface Ports {
  s3?: number
  kafka?: number
}

const closeWait = '08'

/** Reads what a process holds from `/proc`; undefined when it is gone. */
export async function holdingsOf(pid: number, ports: Ports): Promise<Holdings | undefined> {
  try {
    const [status, tables, handles, children] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      Promise.all(
        ['tcp', 'tcp6'].map((name) => readFile(`/proc/${pid}/net/${name}`, 'utf8').catch(() => '')),
      ),
      handlesOf(pid),
      childrenOf(pid),
    ])
    const sockets = parseTcp(tables.join('\n')).filter(({ inode }) => handles.sockets.has(inode))
    const to = (port: number | undefined) => sockets.filter(({ remotePort }) => remotePort === port).length
    return {
      rssMb: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
      threads: Number(/Threads:\s+(\d+)/.exec(status)?.[1] ?? 0),
      handles: handles.count,
      s3Sockets: to(ports.s3),
      kafkaSockets: to(ports.kafka),
      forgottenSockets: sockets.filter(({ state }) => state === closeWait).length,
      children,
    }
  } catch {
    return undefined
  }
}

interface TcpSocket {
  remotePort: number
  /** Two hex digits, as the kernel numbers them. */
  state: string
  inode: string
}

/** Reads a table of `/proc/net/tcp`. */
export function parseTcp(table: string): TcpSocket[] {
  const rows = table.matchAll(
    /^\s*\d+: [\dA-F]+:[\dA-F]{4} [\dA-F]+:([\dA-F]{4}) ([\dA-F]{2}) \S+ \S+ \S+ +\d+ +\d+ (\d+)/gm,
  )
  return [...rows].map(([, port, state, inode]) => ({
    remotePort: Number.parseInt(port!, 16),
    state: state!,
    inode: inode!,
  }))
}

async function handlesOf(pid: number): Promise<{ count: number; sockets: Set<string> }> {
  const names = await readdir(`/proc/${pid}/fd`)
  const targets = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')))
  const sockets = targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? [])
  return { count: names.length, sockets: new Set(sockets) }
}

async function childrenOf(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`)
  const lists = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')),
  )
  return lists.join(' ').split(/\s+/).filter(Boolean).length
}
