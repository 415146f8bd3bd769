import type { Server } from 'node:http'
import { serve } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import type { Batch } from '../../edge/contract/batch.ts'

/** A batch that was just submitted, with some fields of its own. */
export function batchOf({
  turbine,
  ...fields
}: Partial<Omit<Batch, 'turbine'>> & { turbine?: Partial<Batch['turbine']> }) {
  const batch: Batch = {
    id: 'batch_1',
    object: 'batch',
    endpoint: '/v1/captions',
    model: 'turbine-starter',
    errors: null,
    input_file_id: 'file-1',
    completion_window: '24h',
    status: 'validating',
    output_file_id: null,
    error_file_id: null,
    created_at: 1_795_450_000,
    in_progress_at: null,
    expires_at: 1_795_536_400,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    usage: null,
    metadata: null,
    ...fields,
    turbine: { max_prune: 1, prune_ratio_mean: null, counting: false, ...turbine },
  }
  return batch
}

export const completed = batchOf({
  status: 'completed',
  completed_at: 1_795_450_200,
  output_file_id: 'file-out',
  error_file_id: 'file-err',
  request_counts: { total: 1000, completed: 995, failed: 5 },
  turbine: { prune_ratio_mean: 0.234 },
})

export interface SeenRequest {
  method: string
  path: string
  authorization: string | undefined
  idempotencyKey: string | undefined
}

const error = (c: Context, status: 400 | 401 | 404, message: string, code: string) =>
  c.json({ error: { message, type: 'invalid_request_error', param: null, code } }, status)

/**
 * The part of the service that the batch commands talk to, on a free port of this machine. Files are real; a batch
 * is the next of `script` at every look, and stays the last one.
 */
export class FakeService {
  /** Requests, in order. */
  readonly requests: SeenRequest[] = []
  readonly files = new Map<string, { filename: string; bytes: Buffer }>()
  /** Bodies of `POST /v1/batches`. */
  readonly submitted: Record<string, unknown>[] = []
  script: Batch[] = [batchOf({})]
  batches: Batch[] = []
  /** Answers in place of the service, when it answers at all. */
  intercept: (request: SeenRequest) => Response | undefined = () => undefined
  apiKey: string | undefined
  readonly cancelledUploads: string[] = []

  readonly #uploads = new Map<string, { filename: string; bytes: number; parts: Map<string, Buffer> }>()
  #server: Server | undefined
  #port = 0

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Paths that were asked for with this method. */
  paths(method: string): string[] {
    return this.requests.filter((request) => request.method === method).map(({ path }) => path)
  }

  /** Starts, or starts again on the same port. */
  async start(): Promise<this> {
    await new Promise<void>((resolve) => {
      this.#server = serve({ fetch: this.#app().fetch, hostname: '127.0.0.1', port: this.#port }, (info) => {
        this.#port = info.port
        resolve()
      }) as Server
    })
    return this
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server) return
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }

  #app(): Hono {
    const app = new Hono()
    app.use(async (c, next) => {
      const request = {
        method: c.req.method,
        path: c.req.path,
        authorization: c.req.header('authorization'),
        idempotencyKey: c.req.header('idempotency-key'),
      }
      this.requests.push(request)
      const response = this.intercept(request)
      if (response) {
        // As a server behind a proxy does: the request is read before it is answered.
        await c.req.arrayBuffer()
        return response
      }
      if (this.apiKey !== undefined && request.authorization !== `Bearer ${this.apiKey}`)
        return error(c, 401, "This API key is nobody's.", 'invalid_api_key')
      await next()
    })
    app.get('/v1/models', (c) => c.json({ object: 'list', data: [{ id: 'turbine-starter' }] }))
    this.#addFiles(app)
    this.#addUploads(app)
    this.#addBatches(app)
    return app
  }

  #addFiles(app: Hono): void {
    app.post('/v1/files', async (c) => {
      const form = await c.req.formData()
      const file = form.get('file') as File
      if (form.get('purpose') !== 'batch') return error(c, 400, 'The purpose is missing.', 'purpose_missing')
      return c.json(this.#keep(file.name, Buffer.from(await file.arrayBuffer())))
    })
    app.get('/v1/files/:id/content', (c) => {
      const file = this.files.get(c.req.param('id'))
      if (!file) return error(c, 404, 'There is no such file.', 'file_not_found')
      const from = Number(/^bytes=(\d+)-$/.exec(c.req.header('range') ?? '')?.[1] ?? 0)
      return c.body(new Uint8Array(file.bytes.subarray(from)), from > 0 ? 206 : 200)
    })
  }

  #keep(filename: string, bytes: Buffer) {
    const id = `file-${this.files.size + 1}`
    this.files.set(id, { filename, bytes })
    return {
      id,
      object: 'file',
      bytes: bytes.length,
      created_at: 1_795_450_000,
      filename,
      purpose: 'batch',
      status: 'processed',
    }
  }

  #addUploads(app: Hono): void {
    const uploadOf = (id: string, status: string, file: object | null = null) => {
      const { filename, bytes } = this.#uploads.get(id)!
      const stamps = { created_at: 1_795_450_000, expires_at: 1_795_453_600 }
      return { id, object: 'upload', bytes, filename, purpose: 'batch', status, file, ...stamps }
    }
    app.post('/v1/uploads', async (c) => {
      const { filename, bytes } = await c.req.json()
      const id = `upload_${this.#uploads.size + 1}`
      this.#uploads.set(id, { filename, bytes, parts: new Map() })
      return c.json(uploadOf(id, 'pending'))
    })
    app.post('/v1/uploads/:id/parts', async (c) => {
      const { parts } = this.#uploads.get(c.req.param('id'))!
      const data = (await c.req.formData()).get('data') as File
      const id = `part_${parts.size + 1}`
      parts.set(id, Buffer.from(await data.arrayBuffer()))
      return c.json({ id, object: 'upload.part', created_at: 1, upload_id: c.req.param('id') })
    })
    app.post('/v1/uploads/:id/complete', async (c) => {
      const id = c.req.param('id')
      const upload = this.#uploads.get(id)!
      const { part_ids: partIds } = await c.req.json<{ part_ids: string[] }>()
      const content = Buffer.concat(partIds.map((part) => upload.parts.get(part)!))
      if (content.length !== upload.bytes) return error(c, 400, 'Bytes are missing.', 'upload_incomplete')
      return c.json(uploadOf(id, 'completed', this.#keep(upload.filename, content)))
    })
    app.post('/v1/uploads/:id/cancel', (c) => {
      this.cancelledUploads.push(c.req.param('id'))
      return c.json(uploadOf(c.req.param('id'), 'cancelled'))
    })
  }

  #addBatches(app: Hono): void {
    const look = (id: string) => {
      const batch = this.script.length > 1 ? this.script.shift()! : this.script[0]!
      return batch.id === id ? batch : undefined
    }
    const unknown = (c: Context) =>
      error(c, 404, `There is no batch "${c.req.param('id')}".`, 'batch_not_found')
    app.post('/v1/batches', async (c) => {
      this.submitted.push(await c.req.json())
      return c.json(this.script[0]!)
    })
    app.get('/v1/batches', (c) => {
      const start = this.batches.findIndex(({ id }) => id === c.req.query('after')) + 1
      const end = start + Number(c.req.query('limit') ?? 20)
      const data = this.batches.slice(start, end)
      return c.json({
        object: 'list',
        data,
        last_id: data.at(-1)?.id ?? null,
        has_more: end < this.batches.length,
      })
    })
    app.get('/v1/batches/:id', (c) => {
      const batch = look(c.req.param('id'))
      return batch ? c.json(batch) : unknown(c)
    })
    app.post('/v1/batches/:id/cancel', (c) => {
      const batch = look(c.req.param('id'))
      return batch ? c.json({ ...batch, status: 'cancelling' }) : unknown(c)
    })
  }
}
