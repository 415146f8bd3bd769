import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { holdingsOf, parseTcp } from './processes.ts'

test('reads the sockets of the kernel', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:D431 0100007F:2384 08 00000000:00000000 02:000003B1 00000000  1000        0 5678 2 0000000000000000 20 4 30 10 -1
`
  expect(parseTcp(table)).toEqual([
    { remotePort: 0, state: '0A', inode: '1234' },
    { remotePort: 0x2384, state: '08', inode: '5678' },
  ])
})

test('reads what a process holds, and nothing of one that is gone', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const before = (await holdingsOf(process.pid, { s3: port }))!
  const sockets = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')]
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  const held = (await holdingsOf(process.pid, { s3: port }))!
  expect([before.s3Sockets, held.s3Sockets]).toEqual([0, 2])
  expect(held.handles).toBeGreaterThanOrEqual(before.handles + 2)
  expect(held.rssMb).toBeGreaterThan(10)
  for (const socket of sockets) socket.destroy()
  server.close()
  expect(await holdingsOf(2 ** 22 + 1, {})).toBeUndefined()
})
