import { setTimeout as delay } from 'node:timers/promises'
import { type Attack, each, scaled, type Target, tally } from './attack.ts'
import { formType, openClient, outcomeName, uploadFile } from './client.ts'
import { openRequest } from './sockets.ts'

/** A caller who goes away: sends this much, reads this much, and is gone. */
export interface Departure {
  method: string
  path: string
  headers?: Record<string, string | number>
  body?: string | Uint8Array
  /** Leaves when the first bytes of the answer are there. Default: after `afterMs`. */
  atFirstByte?: true
  /** Default: 20. */
  afterMs?: number
}

const tinyJpeg = Buffer.from('ffd8ffe000104a46494600010100000100010000', 'hex')
const chat = JSON.stringify({
  messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/' } }] }],
  stream: true,
})
const formStart =
  '--a-boundary-of-an-attack\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'

/** Every way to leave: while the head, the body or the answer is under way. `file` has a content of some megabytes. */
export function departures(file: string, upload: string): Departure[] {
  const content = `/v1/files/${file}/content`
  return [
    { method: 'HEAD', path: content, atFirstByte: true },
    { method: 'HEAD', path: content, afterMs: 0 },
    { method: 'GET', path: content, atFirstByte: true },
    { method: 'GET', path: content, afterMs: 0 },
    { method: 'GET', path: content, headers: { range: 'bytes=1-' }, atFirstByte: true },
    { method: 'HEAD', path: content, headers: { range: 'bytes=0-0' }, atFirstByte: true },
    { method: 'GET', path: '/v1/batches', afterMs: 0 },
    { method: 'GET', path: '/v1/files', afterMs: 0 },
    { method: 'GET', path: '/metrics', afterMs: 0 },
    {
      method: 'POST',
      path: '/v1/files',
      headers: { 'content-type': formType, 'content-length': 50_000_000 },
      body: formStart + 'x'.repeat(200_000),
    },
    {
      method: 'POST',
      path: `/v1/uploads/${upload}/parts`,
      headers: { 'content-type': formType, 'content-length': 50_000_000 },
      body: formStart.replace('"file"', '"data"') + 'x'.repeat(200_000),
    },
    {
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { 'content-type': 'application/json', 'content-length': chat.length },
      body: chat,
      atFirstByte: true,
    },
    {
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { 'content-type': 'application/json', 'content-length': chat.length },
      body: chat,
      afterMs: 5,
    },
    {
      method: 'POST',
      path: '/v1/captions',
      headers: { 'content-type': 'image/jpeg', 'content-length': tinyJpeg.length },
      body: tinyJpeg,
      afterMs: 2,
    },
    {
      method: 'POST',
      path: '/v1/captions',
      headers: { 'content-type': 'image/jpeg', 'content-length': 10_000_000 },
      body: tinyJpeg,
    },
    {
      method: 'POST',
      path: '/v1/captions',
      headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
      body: '10\r\n{"image_url": "d',
    },
  ]
}

/** Resolves when the caller is gone. */
export async function depart(
  target: Target,
  { body, atFirstByte, afterMs = 20, ...head }: Departure,
): Promise<void> {
  const socket = openRequest({ ...target, ...head })
  const closed = new Promise((resolve) => socket.once('close', resolve))
  if (body !== undefined) socket.write(body)
  if (atFirstByte) {
    const first = new Promise((resolve) => socket.once('data', resolve))
    socket.resume()
    await Promise.race([first, closed, delay(5000)])
    socket.pause()
  } else await delay(afterMs)
  // A reset and not an orderly end every other time: a service must notice both.
  if (Math.random() < 0.5) socket.resetAndDestroy()
  else socket.destroy()
  await closed
}

const contentBytes = 8 * 1024 * 1024
const rounds = 300

/** Callers who leave in every way, some hundred times each. */
export const leaving: Attack = {
  title: 'callers who leave in the middle',
  async run(target) {
    const { signal } = target
    const client = openClient(target)
    const { outcomes, count } = tally()
    const file = await uploadFile(client, Buffer.alloc(scaled(contentBytes, target), 'x\n'))
    const started = await client.send({
      path: '/v1/uploads',
      body: Buffer.from(
        JSON.stringify({ bytes: 1e9, filename: 'f', mime_type: 'application/jsonl', purpose: 'batch' }),
      ),
    })
    const upload = (started.body as { id?: string } | undefined)?.id
    const ways = departures(file ?? 'file-none', upload ?? 'upload_none')
    const turns = Array.from({ length: scaled(rounds, target) }, () => ways).flat()
    await each(turns, { concurrency: 32, signal }, async (departure) => {
      await depart(target, departure)
      count(`left ${departure.method}`)
    })
    // The same place is still there for who stays.
    const stays = await openStaying(target, file)
    count(`stayed ${stays}`)
    await client.close()
    return outcomes
  },
}

async function openStaying(target: Target, file = 'file-none'): Promise<string> {
  const client = openClient({ ...target, signal: AbortSignal.timeout(10_000) })
  const outcome = await client.send({ method: 'GET', path: `/v1/files/${file}` })
  await client.close()
  return outcomeName(outcome)
}
