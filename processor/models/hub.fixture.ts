import { hash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface FakeHub {
  endpoint: string
  /** Path, range and authorization of every request, in order. */
  requests: { path: string; range?: string; authorization?: string }[]
  close(): Promise<void>
}

export interface FakeHubOptions {
  id: string
  /** Name to content; names ending in `.safetensors` or `.bin` are listed as large files. */
  files: Record<string, string>
  /** Answers a request itself and returns true, or leaves it. */
  intercept?(request: IncomingMessage, response: ServerResponse, requestNumber: number): boolean
}

export const commit = `${'c0ffee'.repeat(6)}c0ff`

/** A Hugging Face hub on the loopback interface with one model at revision `main`, for tests. */
export async function startFakeHub({ id, files, intercept }: FakeHubOptions): Promise<FakeHub> {
  const requests: FakeHub['requests'] = []
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    const { range, authorization } = request.headers
    requests.push({ path, range, authorization })
    if (intercept?.(request, response, requests.length)) return
    const name = path.match(`^/${id}/resolve/${commit}/(.+)$`)?.[1]
    if (path === `/api/models/${id}/revision/main?blobs=true`) response.end(JSON.stringify(listing(files)))
    else if (name !== undefined && files[name] !== undefined) answerFile(response, files[name], range)
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

export function answerFile(response: ServerResponse, content: string, range: string | undefined): void {
  const start = Number(range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0)
  response.writeHead(range ? 206 : 200, { 'content-length': content.length - start })
  response.end(content.slice(start))
}

function listing(files: Record<string, string>) {
  return {
    sha: commit,
    siblings: Object.entries(files).map(([name, content]) => ({
      rfilename: name,
      size: content.length,
      blobId: hash('sha1', `blob ${content.length}\0${content}`),
      ...(/\.(safetensors|bin)$/.test(name) && {
        lfs: { sha256: hash('sha256', content), size: content.length, pointerSize: 134 },
      }),
    })),
  }
}
