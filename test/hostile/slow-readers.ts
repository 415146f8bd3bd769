import type { Socket } from 'node:net'
import { type Attack, aborted, each, scaled, tally } from './attack.ts'
import { openClient, uploadFile } from './client.ts'
import { connectionsAllowed, openRequest } from './sockets.ts'

/** More than fits into the buffers of a connection. */
const contentBytes = 16 * 1024 * 1024
/** One more than any pool of 1,000 connections has, and then some. */
const readers = 1010

/** Readers of a file's content who ask and then never read, each with a connection of its own. */
export const slowReaders: Attack = {
  title: 'readers who never read',
  needs: ['s3'],
  async run(target) {
    const { signal } = target
    const client = openClient(target)
    const { outcomes, count } = tally()
    const file = await uploadFile(client, Buffer.alloc(scaled(contentBytes, target), 'x\n'))
    const path = `/v1/files/${file ?? 'file-none'}/content`
    const sockets: Socket[] = []
    const wanted = Array.from({ length: connectionsAllowed(scaled(readers, target)) }, (_, i) => i)
    await each(wanted, { concurrency: 16, signal }, async (i) => {
      const headers = i % 4 === 0 ? { range: 'bytes=1-' } : undefined
      const socket = openRequest({ ...target, method: 'GET', path, headers })
      sockets.push(socket)
      await new Promise((resolve) => {
        socket.once('ready', resolve)
        socket.once('close', resolve)
      })
    })
    await aborted(signal)
    // What the service still holds open, and what it has ended by itself, which a reader sees when it reads.
    await Promise.all(sockets.map((socket) => endOf(socket).then(count)))
    await client.close()
    return outcomes
  },
}

function endOf(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => end('held'), 1000)
    const end = (name: string) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(name)
    }
    socket.once('data', (chunk) => {
      const status = /^HTTP\/1\.1 (\d+)/.exec(chunk.toString('latin1'))?.[1]
      end(status ? `answered ${status}` : 'answered')
    })
    socket.once('close', () => end('closed'))
    socket.resume()
  })
}
