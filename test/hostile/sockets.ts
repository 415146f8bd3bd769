import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'

/** A request that is written by hand, so that it can be left unfinished. */
export interface RawRequest {
  url: string
  apiKey: string
  method?: string
  path: string
  headers?: Record<string, string | number>
  /** False leaves the headers open. Default: true. */
  endHeaders?: boolean
}

/**
 * Opens a connection of its own and writes the head of a request. The socket does not read: call `resume` to. Errors
 * of the socket are ignored; `closed` says when it is gone.
 */
export function openRequest({
  url,
  apiKey,
  method = 'POST',
  path,
  headers,
  endHeaders = true,
}: RawRequest): Socket {
  const { hostname, port, host } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => {})
  socket.pause()
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `host: ${host}`,
    `authorization: Bearer ${apiKey}`,
    ...Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`),
  ]
  socket.write(`${lines.join('\r\n')}\r\n${endHeaders ? '\r\n' : ''}`)
  return socket
}

/** Resolves with the status of the answer, 0 when the connection ended without one. Reads and drops the rest. */
export function answerStatus(socket: Socket): Promise<number> {
  return new Promise((resolve) => {
    socket.once('data', (chunk) =>
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(chunk.toString('latin1'))?.[1] ?? 0)),
    )
    socket.once('close', () => resolve(0))
    socket.resume()
  })
}

/** Kept for everything else that this process opens. */
const spareFiles = 200

/** As many connections as this process may open, at most `wanted`. */
export function connectionsAllowed(wanted: number): number {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  const most = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? 1024)
  return Math.max(1, Math.min(wanted, most - spareFiles))
}
