import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/**
 * What a proxy does to the connections that go through it: `open` passes bytes on, `delay` does so later, `cut` ends
 * connections, also new ones, and `silence` holds all bytes back, with the connections open.
 */
export type Weather = { kind: 'open' | 'cut' | 'silence' } | { kind: 'delay'; ms: number }

/** A way to a server that can be disturbed. */
export interface TcpProxy {
  /** `127.0.0.1:34567` */
  address: string
  port: number
  become(weather: Weather): void
  close(): void
}

/** One direction of a connection: what was read and is still to be written, in order. */
interface Lane {
  from: Socket
  to: Socket
  /** The end of the connection is an entry without bytes. */
  waiting: { bytes?: Buffer; dueMs: number }[]
  timer?: NodeJS.Timeout
}

/** So many bytes wait in a lane before it is read no further. */
const fullBytes = 1024 * 1024

/** Starts a proxy on a free port of loopback. `upstream` is `host:port`. */
export async function startProxy(upstream: string): Promise<TcpProxy> {
  const [host, port] = upstream.split(':')
  const connections = new Set<Lane[]>()
  let weather: Weather = { kind: 'open' }

  const pump = (lane: Lane) => {
    clearTimeout(lane.timer)
    const now = performance.now()
    while (weather.kind !== 'silence' && lane.waiting.length > 0 && !lane.to.writableNeedDrain) {
      const [{ bytes, dueMs }] = lane.waiting as [Lane['waiting'][number]]
      if (weather.kind === 'delay' && dueMs > now) {
        lane.timer = setTimeout(pump, dueMs - now, lane)
        break
      }
      lane.waiting.shift()
      if (bytes) lane.to.write(bytes)
      else lane.to.end()
    }
    const held = lane.waiting.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0)
    if (held > fullBytes) lane.from.pause()
    else lane.from.resume()
  }
  const end = (lanes: Lane[]) => {
    connections.delete(lanes)
    for (const { from, timer } of lanes) {
      clearTimeout(timer)
      from.destroy()
    }
  }
  const join = (lanes: Lane[]) => {
    connections.add(lanes)
    for (const lane of lanes) {
      const add = (bytes?: Buffer) => {
        lane.waiting.push({ bytes, dueMs: performance.now() + (weather.kind === 'delay' ? weather.ms : 0) })
        pump(lane)
      }
      lane.from.on('data', add).on('end', add)
      lane.from.on('close', () => end(lanes)).on('error', () => end(lanes))
      lane.to.on('drain', () => pump(lane))
    }
  }
  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (weather.kind === 'cut') {
      client.destroy()
      return
    }
    const target = connect({ port: Number(port), host, allowHalfOpen: true })
    join([
      { from: client, to: target, waiting: [] },
      { from: target, to: client, waiting: [] },
    ])
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address() as AddressInfo
  return {
    address: `127.0.0.1:${address.port}`,
    port: address.port,
    become(next) {
      weather = next
      for (const lanes of connections) {
        if (next.kind === 'cut') end(lanes)
        else for (const lane of lanes) pump(lane)
      }
    },
    close() {
      server.close()
      for (const lanes of connections) end(lanes)
    },
  }
}
