import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startProxy, type TcpProxy } from './proxy.ts'

let server: Server
let proxy: TcpProxy
beforeEach(async () => {
  server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy = await startProxy(`127.0.0.1:${(server.address() as AddressInfo).port}`)
})
afterEach(() => {
  proxy.close()
  server.close()
})

const open = async () => {
  const socket = connect(proxy.port, '127.0.0.1')
  await once(socket, 'connect')
  return socket.setEncoding('utf8')
}

test('passes bytes on, and the end of a connection', async () => {
  const socket = await open()
  socket.end('hello')
  expect(await once(socket, 'data')).toEqual(['hello'])
  await once(socket, 'end')
})

test('holds bytes back in a silence, and passes them on in their order behind it', async () => {
  const socket = await open()
  let heard = ''
  socket.on('data', (text: string) => {
    heard += text
  })
  proxy.become({ kind: 'silence' })
  socket.write('one ')
  const other = await open()
  other.write('other')
  await new Promise((resolve) => setTimeout(resolve, 30))
  expect(heard).toBe('')
  proxy.become({ kind: 'delay', ms: 5 })
  socket.write('two ')
  proxy.become({ kind: 'open' })
  expect(await once(other, 'data')).toEqual(['other'])
  while (heard.length < 8) await once(socket, 'data')
  expect(heard).toBe('one two ')
  socket.destroy()
  other.destroy()
})

test('cuts connections, and new ones too', async () => {
  const socket = await open()
  const cut = once(socket, 'close')
  proxy.become({ kind: 'cut' })
  await cut
  const late = connect(proxy.port, '127.0.0.1').on('error', () => {})
  await once(late, 'close')
  proxy.become({ kind: 'open' })
  const again = await open()
  again.write('hello')
  expect(await once(again, 'data')).toEqual(['hello'])
  again.destroy()
})
