import { connect, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ISocketFactory } from 'kafkajs'

/** As kafkajs's own sockets, ms. */
const keepAliveMs = 60_000
const lengthBytes = 4
/** More than a broker sends at once; larger ones come of a server that does not speak Kafka's protocol. */
const maxResponseBytes = 512 * 1024 ** 2

/** Opens a connection as kafkajs does by default. */
export const openSocket: ISocketFactory = ({ host, port, ssl, onConnect }) => {
  const name = isIP(host) ? {} : { servername: host }
  const socket = ssl
    ? connectTls({ host, port, ...name, ...(ssl as object) }, onConnect)
    : connect({ host, port }, onConnect)
  return socket.setKeepAlive(true, keepAliveMs)
}

/**
 * Sockets that pass on whole responses only. kafkajs 2.2.4 keeps the part that it has of a response when a connection
 * breaks, and reads the bytes of the next connection behind it: an error that ends the process.
 */
export const wholeResponses =
  (open: ISocketFactory): ISocketFactory =>
  (options) => {
    const socket = open(options)
    const emit = socket.emit.bind(socket) as (event: string, ...values: unknown[]) => boolean
    const take = responses((response) => emit('data', response))
    socket.emit = (event: string, ...values: unknown[]) => {
      if (event !== 'data') return emit(event, ...values)
      const bytes = values[0] as Buffer
      if (take(bytes)) return true
      socket.destroy(
        new Error(`the server at ${options.host}:${options.port} does not speak Kafka's protocol`),
      )
      return false
    }
    return socket
  }

/**
 * Cuts bytes into responses: four bytes of length, then so many bytes.
 * @returns takes the next bytes; false for a length that no response has
 */
function responses(onResponse: (withLength: Buffer) => void): (bytes: Buffer) => boolean {
  let parts: Buffer[] = []
  let size = 0
  let needed = lengthBytes
  return (bytes) => {
    parts.push(bytes)
    size += bytes.length
    while (size >= needed) {
      const joined = parts.length === 1 ? parts[0]! : Buffer.concat(parts, size)
      const length = joined.readInt32BE(0)
      if (length < lengthBytes || length > maxResponseBytes) return false
      needed = lengthBytes + length
      parts = [joined]
      if (size < needed) break
      onResponse(joined.subarray(0, needed))
      parts = size > needed ? [joined.subarray(needed)] : []
      size -= needed
      needed = lengthBytes
    }
    return true
  }
}
