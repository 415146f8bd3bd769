import type { Socket } from 'node:net'
import { type Attack, aborted, each, scaled, type Target, tally } from './attack.ts'
import { formType, openClient, outcomeName } from './client.ts'
import { progressiveJpeg } from './images.ts'
import { openRequest } from './sockets.ts'

/** The largest body. */
const bodyBytes = 20 * 1024 * 1024
const bodies = 300
const asyncImages = 200
const uploads = 100
const uploadedBytes = 6 * 1024 * 1024

/** A picture that can be captioned, behind comments that fill the file up to this size. */
export function heavyImage(bytes: number): Buffer {
  const picture = progressiveJpeg({ width: 8, height: 8, scans: 1 })
  // A comment of a JPEG holds 65,533 bytes at most, so there are many.
  const comment = Buffer.concat([Buffer.from([0xff, 0xfe, 0xff, 0xff]), Buffer.alloc(65_533)])
  const comments = Array.from({ length: Math.floor(bytes / comment.length) }, () => comment)
  return Buffer.concat([picture.subarray(0, 2), ...comments, picture.subarray(2)])
}

/** Bodies of the largest size that lack their last byte, images that nobody waits for, and uploads that stall. */
export const heavyBodies: Attack = {
  title: 'more bytes at once than there is memory',
  async run(target) {
    const { outcomes, count } = tally()
    const held: Socket[] = []
    const hold = (request: Omit<StalledBody, 'count'>) => held.push(stallBody(target, { ...request, count }))
    const image = heavyImage(scaled(bodyBytes, target))
    const upload = Buffer.alloc(scaled(uploadedBytes, target), 'x')
    const json = Buffer.alloc(image.length, 'A')
    for (let i = 0; i < scaled(bodies, target) && !target.signal.aborted; i++) {
      const asJson = i % 3 === 0
      hold({
        path: i % 3 === 1 ? '/v1/captions' : asJson ? '/v1/chat/completions' : '/v1/captions',
        type: asJson ? 'application/json' : 'image/jpeg',
        chunked: i % 2 === 1,
        body: asJson ? json : image,
        start: asJson ? '{"messages":[{"role":"user","content":"' : '',
      })
    }
    for (let i = 0; i < scaled(uploads, target) && !target.signal.aborted; i++)
      hold({
        path: '/v1/files',
        type: formType,
        start:
          '--a-boundary-of-an-attack\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n',
        body: upload,
        chunked: i % 2 === 1,
      })
    await flood(target, count)
    await aborted(target.signal)
    for (const socket of held) socket.destroy()
    return outcomes
  },
}

/** Images that keep decoders busy, and behind them images of some megabytes; nobody waits for them. */
async function flood(target: Target, count: (name: string) => void): Promise<void> {
  const client = openClient(target)
  const side = 8 * scaled(500, target)
  const slow = progressiveJpeg({ width: side, height: side, scans: 800, legal: true })
  const large = heavyImage(scaled(5 * 1024 * 1024, target))
  const turns = Array.from({ length: scaled(asyncImages, target) }, (_, i) => (i < 8 ? slow : large))
  await each(turns, { concurrency: 32, signal: target.signal }, async (body) => {
    const ask = { path: '/v1/captions', type: 'image/jpeg', headers: { prefer: 'respond-async' }, body }
    count(`async ${outcomeName(await client.send(ask))}`)
  })
  await client.close()
}

interface StalledBody {
  path: string
  type: string
  start: string
  body: Buffer
  /** Without a length. */
  chunked: boolean
  count(name: string): void
}

/** Sends all of a body but its last byte, and waits. */
function stallBody(target: Target, { path, type, start, body, chunked, count }: StalledBody): Socket {
  const bytes = start.length + body.length
  const headers = {
    'content-type': type,
    ...(chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': bytes + 1 }),
  }
  const socket = openRequest({ ...target, path, headers })
  if (chunked) socket.write(`${bytes.toString(16)}\r\n`)
  socket.write(start)
  socket.write(body)
  socket.once('data', (data) => count(`stalled ${/^HTTP\/1\.1 (\d+)/.exec(data.toString('latin1'))?.[1]}`))
  socket.resume()
  return socket
}
