import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import sharp from 'sharp'

/** A service under attack, and who attacks. */
export interface Target {
  url: string
  apiKey: string
  /** Ends the attack, which then lets go of everything that it holds. */
  signal: AbortSignal
  /** Of the attack's full size, from 0 to 1. */
  share: number
}

/** How often each thing came of what was sent. */
export type Outcomes = Record<string, number>

export interface Attack {
  title: string
  /** Never rejects for what the service does. */
  run(target: Target): Promise<Outcomes>
}

/** Asks until the signal aborts, some at a time. */
async function flood(target: Target, callers: number, ask: () => Promise<string>): Promise<Outcomes> {
  const outcomes: Outcomes = {}
  const caller = async () => {
    while (!target.signal.aborted) {
      const outcome = await ask().catch(() => 'no answer')
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      if (outcome === 'no answer') await delay(100)
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  return outcomes
}

async function post(
  { url, apiKey, signal }: Target,
  path: string,
  body: NonNullable<RequestInit['body']>,
  headers: Record<string, string> = {},
): Promise<string> {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    body,
    headers: { authorization: `Bearer ${apiKey}`, ...headers },
    signal,
  })
  const text = await response.text()
  const code = /"code":"(\w+)"/.exec(text)?.[1]
  return code ? `${response.status} ${code}` : String(response.status)
}

const json = { 'content-type': 'application/json' }

/** Opens a connection and writes what is given; it reads nothing. */
async function open(target: Target, head: string): Promise<Socket | undefined> {
  const { hostname, port, host } = new URL(target.url)
  const socket = connect(Number(port), hostname).on('error', () => {})
  socket.pause()
  const lines = [head, `host: ${host}`, `authorization: Bearer ${target.apiKey}`]
  socket.write(`${lines.join('\r\n')}\r\n`)
  await Promise.race([once(socket, 'connect'), once(socket, 'close')])
  return socket.destroyed ? undefined : socket
}

async function hold(target: Target, count: number, head: string, rest: string): Promise<Outcomes> {
  const sockets: Socket[] = []
  for (let i = 0; i < count && !target.signal.aborted; i++) {
    const socket = await open(target, head)
    socket?.write(rest)
    if (socket) sockets.push(socket)
  }
  while (!target.signal.aborted) await delay(100)
  for (const socket of sockets) socket.destroy()
  return { held: sockets.length }
}

async function uploadFile(target: Target, text: string): Promise<string> {
  const form = new FormData()
  form.set('purpose', 'batch')
  form.set('file', new File([text], 'work.jsonl'))
  const response = await fetch(`${target.url}/v1/files`, {
    method: 'POST',
    body: form,
    headers: { authorization: `Bearer ${target.apiKey}` },
    signal: target.signal,
  })
  return ((await response.json()) as { id: string }).id
}

async function submit(target: Target, lines: string[]): Promise<Outcomes> {
  const file = await uploadFile(target, lines.join('\n')).catch(() => undefined)
  if (!file) return { 'no answer': 1 }
  const batch = { input_file_id: file, endpoint: '/v1/captions', completion_window: '30d' }
  const outcome = await post(target, '/v1/batches', JSON.stringify(batch), json).catch(() => 'no answer')
  return { [outcome]: 1 }
}

/** Attacks by name. */
export const attacks: Record<string, Attack> = {
  'large-json': {
    title: 'JSON that is cheap to send and dear to check',
    run(target) {
      const body = `{"messages":[${'0,'.repeat(target.share * 5_000_000)}0]}`
      return flood(target, 1, () => post(target, '/v1/chat/completions', body, json))
    },
  },
  'slow-bodies': {
    title: 'bodies that never arrive',
    run: (target) =>
      hold(
        target,
        target.share * 300,
        'POST /v1/captions HTTP/1.1',
        'content-type: image/jpeg\r\ncontent-length: 1000000\r\n\r\nabc',
      ),
  },
  'head-and-leave': {
    title: 'HEAD on the content of a file, and callers who leave',
    async run(target) {
      const file = await uploadFile(target, 'x'.repeat(1_000_000)).catch(() => undefined)
      if (!file) return { 'no answer': 1 }
      return flood(target, 2, async () => {
        const headers = { authorization: `Bearer ${target.apiKey}` }
        const url = `${target.url}/v1/files/${file}/content`
        const head = await fetch(url, { method: 'HEAD', headers, signal: target.signal })
        const leave = new AbortController()
        const response = await fetch(url, { headers, signal: leave.signal })
        leave.abort()
        return `${head.status} ${response.status}`
      })
    },
  },
  'no-reader': {
    title: 'readers who never read',
    async run(target) {
      const file = await uploadFile(target, 'x'.repeat(5_000_000)).catch(() => undefined)
      if (!file) return { 'no answer': 1 }
      return hold(target, target.share * 300, `GET /v1/files/${file}/content HTTP/1.1`, '\r\n')
    },
  },
  'large-bodies': {
    title: 'many large bodies at once',
    run(target) {
      const body = new Uint8Array(20 * 1024 * 1024 - 1)
      return flood(target, 4, () => post(target, '/v1/captions', body, { 'content-type': 'image/jpeg' }))
    },
  },
  'hard-images': {
    title: 'images that are small to send and dear to decode',
    async run(target) {
      const create = { width: 7900, height: 7900, channels: 3 as const, background: '#123456' }
      const image = new Uint8Array(await sharp({ create }).png({ compressionLevel: 9 }).toBuffer())
      return flood(target, 2, () => post(target, '/v1/captions', image, { 'content-type': 'image/png' }))
    },
  },
  'silent-hosts': {
    title: 'lines with addresses that never answer',
    async run(target) {
      const { createServer } = await import('node:net')
      const server = createServer(() => {}).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as { port: number }
      const lines = Array.from({ length: 300 * target.share }, (_, i) => `http://127.0.0.1:${port}/${i}.jpg`)
      const outcomes = await submit(target, lines)
      while (!target.signal.aborted) await delay(100)
      server.close()
      return outcomes
    },
  },
  'refused-objects': {
    title: 'lines of objects that S3 refuses',
    run: (target) =>
      submit(target, [
        '{"image_url":"s3://pictures/a\\u0000b.jpg"}',
        '{"image_url":"s3://pictures/none.jpg"}',
        '{"image_url":"s3://nobody-has-this-bucket/x.jpg"}',
      ]),
  },
  'async-flood': {
    title: 'more than is captioned, without waiting for it',
    run(target) {
      const image = new Uint8Array(400_000)
      image.set([0xff, 0xd8, 0xff, 0xe0])
      const headers = { 'content-type': 'image/jpeg', prefer: 'respond-async' }
      return flood(target, 2, () => post(target, '/v1/captions', image, headers))
    },
  },
}
