import { z } from 'zod'
import { type Batch, type BatchRequest, batchSchema } from '../../../edge/contract/batch.ts'
import { type File as BatchFile, fileSchema, type Upload, uploadSchema } from '../../../edge/contract/file.ts'
import { Connection, type ConnectionOptions } from './client-connection.ts'

const batchPageSchema = z.object({
  data: z.array(batchSchema),
  last_id: z.string().nullish(),
  has_more: z.boolean(),
})
const modelPageSchema = z.object({ data: z.array(z.object({ id: z.string() })) })
const partSchema = z.object({ id: z.string() })

/**
 * Client of a service's HTTP API. All methods throw `ServiceError` or `UnreachableError`; `Connection` retries requests.
 * @example const batch = await new Client({ url: 'http://127.0.0.1:8787' }).batch('batch_...')
 */
export class Client {
  readonly #connection: Connection

  /** @throws UsageError for an invalid `url` */
  constructor(options: ConnectionOptions) {
    this.#connection = new Connection(options)
  }

  get url(): string {
    return this.#connection.url
  }

  /** Ids of the served models. The cheapest request that checks the address and the key. */
  async models(): Promise<string[]> {
    const { data } = await this.#connection.json({ path: '/v1/models' }, modelPageSchema)
    return data.map(({ id }) => id)
  }

  /** Uploads a whole file in one request. */
  createFile(data: Blob, filename: string, idempotencyKey: string): Promise<BatchFile> {
    const body = new FormData()
    body.append('purpose', 'batch')
    body.append('file', data, filename)
    return this.#post('/v1/files', fileSchema, { body, idempotencyKey })
  }

  /** Starts an upload of `bytes` bytes in parts. */
  createUpload(bytes: number, filename: string, idempotencyKey: string): Promise<Upload> {
    const body = { purpose: 'batch', filename, bytes, mime_type: 'application/jsonl' }
    return this.#post('/v1/uploads', uploadSchema, { body, idempotencyKey })
  }

  /** @returns the part's id */
  async addUploadPart(uploadId: string, data: Blob, idempotencyKey: string): Promise<string> {
    const body = new FormData()
    body.append('data', data, 'part')
    const path = `/v1/uploads/${encodeURIComponent(uploadId)}/parts`
    return (await this.#post(path, partSchema, { body, idempotencyKey })).id
  }

  /** Joins the parts into a file, in the order of `partIds`. */
  completeUpload(uploadId: string, partIds: string[]): Promise<Upload> {
    const body = { part_ids: partIds }
    return this.#post(`/v1/uploads/${encodeURIComponent(uploadId)}/complete`, uploadSchema, { body })
  }

  /** Deletes the parts; tried once, even after an interruption. */
  cancelUpload(uploadId: string): Promise<Upload> {
    const path = `/v1/uploads/${encodeURIComponent(uploadId)}/cancel`
    return this.#connection.json(
      { method: 'POST', path, maxWaitMs: 0, afterInterruption: true },
      uploadSchema,
    )
  }

  /** Content of a file from byte `from` on: status 206, or 200 and the whole file where ranges are not supported. */
  fileContent(fileId: string, from = 0): Promise<Response> {
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
    return this.#connection.open({ path: `/v1/files/${encodeURIComponent(fileId)}/content`, headers })
  }

  createBatch(body: BatchRequest, idempotencyKey: string): Promise<Batch> {
    return this.#post('/v1/batches', batchSchema, { body, idempotencyKey })
  }

  batch(id: string, options: { maxWaitMs?: number } = {}): Promise<Batch> {
    return this.#connection.json({ path: `/v1/batches/${encodeURIComponent(id)}`, ...options }, batchSchema)
  }

  /** A page of at most 100, newest first. */
  batches({ limit, after }: { limit: number; after?: string }): Promise<z.output<typeof batchPageSchema>> {
    const query = new URLSearchParams({ limit: String(limit), ...(after === undefined ? {} : { after }) })
    return this.#connection.json({ path: `/v1/batches?${query}` }, batchPageSchema)
  }

  cancelBatch(id: string): Promise<Batch> {
    return this.#post(`/v1/batches/${encodeURIComponent(id)}/cancel`, batchSchema)
  }

  #post<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    { body, idempotencyKey }: { body?: FormData | object; idempotencyKey?: string } = {},
  ): Promise<z.output<Schema>> {
    const headers: Record<string, string> = idempotencyKey ? { 'idempotency-key': idempotencyKey } : {}
    return this.#connection.json({ method: 'POST', path, body, headers }, schema)
  }
}
