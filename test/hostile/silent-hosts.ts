import { createServer, type Server, type Socket } from 'node:net'
import { type Attack, aborted, each, scaled, tally } from './attack.ts'
import { batchOutcome, openClient, outcomeName, submitLines } from './client.ts'

/** How a host of images behaves. */
const manners = {
  /** Accepts, and never answers. */
  silent: () => {},
  /** Answers with a byte now and then. */
  drip: (socket: Socket) => every(socket, 'HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\n\r\n', 'x'),
  /** Headers that never end. */
  headers: (socket: Socket) => every(socket, 'HTTP/1.1 200 OK\r\n', 'x-a: b\r\n'),
  /** Redirects to itself, late. */
  redirect: (socket: Socket) => {
    setTimeout(() => socket.end('HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n'), 2000)
  },
  /** Bytes without end. */
  endless: (socket: Socket) =>
    every(socket, 'HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\n\r\n', Buffer.alloc(65_536), 10),
} as const

function every(socket: Socket, head: string, rest: string | Buffer, ms = 500): void {
  socket.write(head)
  const timer = setInterval(() => socket.writable && socket.write(rest), ms)
  socket.once('close', () => clearInterval(timer))
}

type Manner = keyof typeof manners

/** Hosts of images that take their time, on loopback. */
export interface SilentHosts {
  /** An address for each number; many hosts, or one. */
  address(manner: Manner, i: number): string
  /** Most connections at once. */
  readonly peak: number
  close(): Promise<void>
}

/** All of 127.0.0.0/8 is this machine. */
const hosts = 200

export async function startSilentHosts(): Promise<SilentHosts> {
  const sockets = new Set<Socket>()
  let peak = 0
  const servers = new Map<Manner, { server: Server; port: number }>()
  for (const [manner, behave] of Object.entries(manners) as [Manner, (socket: Socket) => void][]) {
    const server = createServer((socket) => {
      sockets.add(socket)
      peak = Math.max(peak, sockets.size)
      socket.on('error', () => {})
      socket.once('close', () => sockets.delete(socket))
      socket.resume()
      behave(socket)
    })
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve))
    servers.set(manner, { server, port: (server.address() as { port: number }).port })
  }
  return {
    address: (manner, i) => `http://127.0.1.${1 + (i % hosts)}:${servers.get(manner)!.port}/${i}.jpg`,
    get peak() {
      return peak
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      for (const { server } of servers.values()) await new Promise((resolve) => server.close(resolve))
    },
  }
}

const lines = 2000
const requests = 200

/** Lines, and requests, whose images never come: of one host, of hundreds, and slow in every other way. */
export const silentHosts: Attack = {
  title: 'images at addresses that accept and never answer',
  needs: ['private addresses'],
  async run(target) {
    const { signal } = target
    const client = openClient(target)
    const { outcomes, count } = tally()
    const servers = await startSilentHosts()
    const count2000 = scaled(lines, target)
    const manifest = (addressOf: (i: number) => string) =>
      Array.from({ length: count2000 }, (_, i) => addressOf(i))
    const kinds = Object.keys(manners) as Manner[]
    const batches = [
      await submitLines(
        client,
        manifest(() => servers.address('silent', 0)),
      ),
      await submitLines(
        client,
        manifest((i) => servers.address('silent', i)),
      ),
      await submitLines(
        client,
        manifest((i) => servers.address(kinds[i % kinds.length]!, i)),
      ),
    ]
    const turns = Array.from({ length: scaled(requests, target) }, (_, i) =>
      servers.address(kinds[i % kinds.length]!, i),
    )
    const waiting = each(turns, { concurrency: turns.length, signal }, async (image_url) => {
      const body = Buffer.from(JSON.stringify({ image_url, turbine: { deadline_ms: 20_000 } }))
      count(outcomeName(await client.send({ path: '/v1/captions', body })))
    })
    await aborted(signal)
    await waiting
    await client.close()
    const after = openClient({ ...target, signal: AbortSignal.timeout(5000) })
    for (const id of batches) count(await batchOutcome(after, id))
    await after.close()
    await servers.close()
    count('connections at most', servers.peak)
    return outcomes
  },
}
