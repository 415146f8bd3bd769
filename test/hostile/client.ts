import { Agent } from 'undici'
import type { Target } from './attack.ts'

export interface Ask {
  /** Default: POST. */
  method?: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  path: string
  /** Default: application/json where there is a body. */
  type?: string
  headers?: Record<string, string>
  body?: Uint8Array
  /** Ends this request beside the attack's own signal. */
  signal?: AbortSignal
}

/** What came of a request; status 0 when no answer came. */
export interface Outcome {
  status: number
  /** The error's code, if there is one. */
  code?: string
  /** The answer's body where it is JSON. */
  body?: unknown
}

/** Sends requests of the hostile tenant. */
export interface Client {
  send(ask: Ask): Promise<Outcome>
  close(): Promise<void>
}

/** A client with as many connections as it takes and no time limits of its own. */
export function openClient({ url, apiKey, signal }: Target): Client {
  const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0, keepAliveTimeout: 1000 })
  return {
    send: (ask) => send(ask),
    close: () => dispatcher.destroy(),
  }

  async function send({
    method = 'POST',
    path,
    type,
    headers = {},
    body,
    signal: own,
  }: Ask): Promise<Outcome> {
    try {
      const { statusCode: status, body: answer } = await dispatcher.request({
        origin: url,
        path,
        method,
        headers: {
          authorization: `Bearer ${apiKey}`,
          ...(body && { 'content-type': type ?? 'application/json' }),
          ...headers,
        },
        body: body ?? null,
        signal: own ? AbortSignal.any([signal, own]) : signal,
      })
      const parsed: unknown = await answer.json().catch(() => undefined)
      return {
        status,
        code: (parsed as { error?: { code?: string } } | undefined)?.error?.code,
        body: parsed,
      }
    } catch {
      return { status: 0 }
    }
  }
}

/** `400 invalid_json`, `200`, `no answer` */
export const outcomeName = ({ status, code }: Outcome): string =>
  status === 0 ? 'no answer' : [status, code].filter(Boolean).join(' ')

const boundary = 'a-boundary-of-an-attack'
export const formType = `multipart/form-data; boundary=${boundary}`

/** A multipart form: text fields, and a file in the part `name`. */
export function formOf(
  fields: Record<string, string>,
  { name, filename = 'work.jsonl', content }: { name: string; filename?: string; content: Uint8Array },
): Buffer {
  const texts = Object.entries(fields).map(
    ([field, value]) =>
      `--${boundary}\r\ncontent-disposition: form-data; name="${field}"\r\n\r\n${value}\r\n`,
  )
  const head = `--${boundary}\r\ncontent-disposition: form-data; name="${name}"; filename="${filename}"\r\ncontent-type: application/octet-stream\r\n\r\n`
  return Buffer.concat([Buffer.from(texts.join('') + head), content, Buffer.from(`\r\n--${boundary}--\r\n`)])
}

/** Uploads a file for batches; its id, or undefined where the service refused it. */
export async function uploadFile(client: Client, content: Uint8Array): Promise<string | undefined> {
  const body = formOf({ purpose: 'batch' }, { name: 'file', content })
  const { status, body: file } = await client.send({ path: '/v1/files', type: formType, body })
  return status === 200 ? (file as { id: string }).id : undefined
}

/** Starts a batch of a file's lines; its id, or undefined where the service refused. */
export async function createBatch(
  client: Client,
  input_file_id: string,
  { endpoint = '/v1/captions', window = '30d' }: { endpoint?: string; window?: string } = {},
): Promise<string | undefined> {
  const body = Buffer.from(JSON.stringify({ input_file_id, endpoint, completion_window: window }))
  const { status, body: batch } = await client.send({ path: '/v1/batches', body })
  return status === 200 ? (batch as { id: string }).id : undefined
}

/** Uploads lines and starts a batch of them. */
export async function submitLines(
  client: Client,
  lines: Iterable<string | Uint8Array>,
  options?: Parameters<typeof createBatch>[2],
): Promise<string | undefined> {
  const content = Buffer.concat([...lines].flatMap((line) => [Buffer.from(line as Uint8Array), lineEnd]))
  const file = await uploadFile(client, content)
  return file && createBatch(client, file, options)
}

const lineEnd = Buffer.from('\n')

/** How a batch stands, as an outcome: `batch completed 3/5`. */
export async function batchOutcome(client: Client, id: string | undefined): Promise<string> {
  if (id === undefined) return 'batch refused'
  const { body, ...outcome } = await client.send({ method: 'GET', path: `/v1/batches/${id}` })
  if (outcome.status !== 200) return `batch ${outcomeName(outcome)}`
  const { status, request_counts: counts } = body as {
    status: string
    request_counts: { total: number; completed: number; failed: number }
  }
  return `batch ${status}, ${counts.completed} done and ${counts.failed} failed of ${counts.total}`
}
