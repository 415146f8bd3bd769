import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { S3Options } from './s3.ts'

/** Handles a request in place of the server; false leaves it to the server. */
export type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean

/** A small S3 server in this process, with one bucket, that counts what is open. */
export interface S3TestServer {
  options: S3Options
  objects: Map<string, Buffer>
  /** Parts of uploads that were neither completed nor aborted. */
  uploads: Map<string, Buffer[]>
  /** E.g. `GET a/b`. */
  requests: string[]
  /** Handles all requests from now on. */
  intercept?: Intercept
  /** Responses that are not complete. */
  openResponses(): number
  /** Connections that were ever made. */
  connections(): number
  /** Connections that are open, with a request or without. */
  openConnections(): number
  close(): Promise<void>
}

export async function startS3TestServer(): Promise<S3TestServer> {
  const objects = new Map<string, Buffer>()
  const uploads = new Map<string, Buffer[]>()
  const requests: string[] = []
  let open = 0
  const http = createServer(async (request, response) => {
    open++
    response.once('close', () => open--)
    const url = new URL(request.url!, 'http://s3')
    // As it came: an URL has no "." and ".." segments.
    const key = request.url!.split('?', 1)[0]!.split('/').slice(2).map(decodeURIComponent).join('/')
    requests.push(`${request.method} ${key}${url.search.includes('list-type') ? '?list' : ''}`)
    if (server.intercept?.(request, response)) return
    await serve({ request, response, url, key, objects, uploads })
  }).listen(0, '127.0.0.1')
  let connections = 0
  let openConnections = 0
  http.on('connection', (socket) => {
    connections++
    openConnections++
    socket.once('close', () => openConnections--)
  })
  // As S3 servers may, it leaves it to its clients to end idle connections.
  http.keepAliveTimeout = 0
  await once(http, 'listening')
  const endpoint = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const server: S3TestServer = {
    options: { endpoint, region: 'us-east-1', accessKeyId: 'key', secretAccessKey: 'secret' },
    objects,
    uploads,
    requests,
    openResponses: () => open,
    connections: () => connections,
    openConnections: () => openConnections,
    async close() {
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
  return server
}

interface Served {
  request: IncomingMessage
  response: ServerResponse
  url: URL
  key: string
  objects: Map<string, Buffer>
  uploads: Map<string, Buffer[]>
}

const modified = 'Fri, 27 Nov 2026 07:00:00 GMT'

async function serve(served: Served): Promise<void> {
  const { request, response, url, key, objects } = served
  const body = Buffer.concat(await request.toArray().catch(() => []))
  if (request.errored) return
  if (url.searchParams.has('list-type')) return list(response, url, objects)
  if (url.searchParams.has('uploads') || url.searchParams.has('uploadId')) return upload(served, body)
  const headers = { etag: '"1"', 'last-modified': modified }
  if (request.method === 'PUT') {
    objects.set(key, decoded(request, body))
    response.writeHead(200, headers).end()
    return
  }
  if (request.method === 'DELETE') {
    objects.delete(key)
    response.writeHead(204).end()
    return
  }
  const object = objects.get(key)
  if (!object) {
    response.writeHead(404, { 'content-type': 'application/xml' })
    response.end(request.method === 'HEAD' ? undefined : '<Error><Code>NoSuchKey</Code></Error>')
    return
  }
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const start = Number(first ?? 0)
  const end = last ? Math.min(Number(last) + 1, object.length) : object.length
  const range = first && { 'content-range': `bytes ${start}-${end - 1}/${object.length}` }
  response.writeHead(range ? 206 : 200, { ...headers, ...(range || {}), 'content-length': end - start })
  response.end(request.method === 'HEAD' ? undefined : object.subarray(start, end))
}

function upload({ request, response, url, key, objects, uploads }: Served, body: Buffer): void {
  const id = url.searchParams.get('uploadId') ?? `upload-${key}`
  const xml = (text = '') => response.writeHead(200, { 'content-type': 'application/xml' }).end(text)
  if (url.searchParams.has('uploads')) {
    uploads.set(id, [])
    xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`)
  } else if (request.method === 'PUT') {
    uploads.get(id)![Number(url.searchParams.get('partNumber')) - 1] = body
    response.writeHead(200, { etag: '"1"' }).end()
  } else {
    if (request.method === 'POST') objects.set(key, Buffer.concat(uploads.get(id)!))
    uploads.delete(id)
    xml('<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>')
  }
}

/** Without the signatures of chunks that the SDK may send. */
function decoded({ headers }: IncomingMessage, body: Buffer): Buffer {
  if (!headers['content-encoding']?.includes('aws-chunked')) return body
  throw new TypeError('The server does not read aws-chunked bodies.')
}

/** As AWS does for `encoding-type=url`. */
const encodeKey = (key: string) => encodeURIComponent(key).replaceAll('%2F', '/').replaceAll('%20', '+')

function list(response: ServerResponse, { searchParams }: URL, objects: Map<string, Buffer>): void {
  const prefix = searchParams.get('prefix') ?? ''
  const token = searchParams.get('continuation-token')
  const after = token === null ? (searchParams.get('start-after') ?? '') : decodeURIComponent(token)
  const limit = Number(searchParams.get('max-keys') ?? 1000)
  const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort()
  const page = keys.slice(0, limit)
  const more = keys.length > limit
  const contents = page.map(
    (key) =>
      `<Contents><Key>${encodeKey(key)}</Key><LastModified>2026-11-27T07:00:00.000Z</LastModified><ETag>"1"</ETag><Size>${objects.get(key)!.length}</Size></Contents>`,
  )
  const next = more
    ? `<NextContinuationToken>${encodeURIComponent(page.at(-1)!)}</NextContinuationToken>`
    : ''
  response
    .writeHead(200, { 'content-type': 'application/xml' })
    .end(
      `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>${more}</IsTruncated>${next}${contents.join('')}</ListBucketResult>`,
    )
}

/** Waits until the condition holds, for some seconds. */
export async function eventually(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; !(await holds()); turn++) {
    if (turn === 5_000) throw new Error('It never came to hold.')
    await setTimeout(1)
  }
}
