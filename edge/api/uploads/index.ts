import { createHash } from 'node:crypto'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { readSlices, type Slice } from '../../../infra/store/slices.ts'
import { invalid, TurbineError } from '../../contract/errors.ts'
import {
  cutFilename,
  maxPartBytes,
  maxParts,
  type Upload,
  type UploadCompletion,
  type UploadPart,
  type UploadRequest,
  uploadCompletionSchema,
  uploadExpirySeconds,
  uploadRequestSchema,
} from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import { parse } from '../../contract/parse.ts'
import type { Tenant } from '../../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { jsonCopies, receiveBody, receiveStream } from '../../guard/body.ts'
import { createdOnce } from '../../guard/idempotency.ts'
import { addUsage, assertStorage, storageExceeded, storing } from '../../guard/storage.ts'
import { announcedBytes, type FormBody, formOf, formOverheadBytes, readForm } from '../files/form.ts'
import { expiryOf, keepFile, newFile } from '../files/stored.ts'
import { maxJsonBytes, readJson } from '../read.ts'
import { documented } from '../responses.ts'
import {
  addUploadPart,
  cancelUpload,
  completeUpload,
  completionExample,
  createUpload,
  uploadExample,
} from './routes.ts'
import {
  assertPartFits,
  assertPending,
  bytesExceeded,
  endUpload,
  keepUpload,
  type ReadUpload,
  removeParts,
  replaceUpload,
  requireUpload,
  slicesOfParts,
} from './stored.ts'

/** Maximum bytes of the list of all parts of an upload. */
const maxPartListBytes = 1024 * 1024

/** `/v1/uploads`: multipart uploads, in OpenAI's format. */
export function addUploads(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps): void {
  const json = receiveBody(deps, {
    maxBytes: maxJsonBytes,
    remedy: 'Shorten its fields.',
    copies: jsonCopies,
  })

  app.post(documented(app, createUpload), json, async (c) => {
    const ask = parse(uploadRequestSchema, await readJson(c, uploadExample))
    await assertStorage(deps, c.get('tenant'))
    const begin = (id: string) => beginUpload(deps, c.get('tenant').id, id, ask)
    return c.json(await createdOnce(c, deps, { prefix: 'upload_', sameBody: true }, begin), 200)
  })

  const part = receiveStream(deps, {
    maxBytes: maxPartBytes + formOverheadBytes,
    remedy: `Send parts of at most ${maxPartBytes} bytes.`,
  })
  app.post(documented(app, addUploadPart), part, async (c) => {
    const incoming = { tenant: c.get('tenant'), uploadId: c.req.param('id'), form: formOf(c) }
    const announced = announcedBytes(c)
    const add = (id: string) => addPart(deps, { ...incoming, announced, id })
    return c.json(await createdOnce(c, deps, { prefix: 'part_' }, add), 200)
  })

  const list = receiveBody(deps, {
    maxBytes: maxPartListBytes,
    remedy: 'List fewer parts.',
    copies: jsonCopies,
  })
  app.post(documented(app, completeUpload), list, async (c) => {
    const body = await readJson(c, completionExample, { maxItems: maxParts + 100 })
    const completion = parse(uploadCompletionSchema, body)
    const upload = { tenant: c.get('tenant').id, id: c.req.param('id'), signal: c.req.raw.signal }
    return c.json(await complete(deps, upload, completion), 200)
  })

  app.post(documented(app, cancelUpload), async (c) => {
    const tenant = c.get('tenant')
    const stored = await requireUpload(deps, tenant.id, c.req.param('id'))
    if (stored.upload.status === 'cancelled') return c.json(stored.upload, 200)
    assertPending(stored.upload)
    const { upload, freedBytes } = await endUpload(deps.store, tenant.id, stored, 'cancelled')
    await addUsage(deps, tenant, 'uploads', -freedBytes)
    return c.json(upload, 200)
  })
}

async function beginUpload(deps: EdgeDeps, tenant: string, id: string, ask: UploadRequest): Promise<Upload> {
  const created_at = Math.floor(deps.now() / 1000)
  const upload: Upload = {
    id,
    object: 'upload',
    bytes: ask.bytes,
    created_at,
    expires_at: created_at + uploadExpirySeconds,
    filename: cutFilename(ask.filename),
    purpose: ask.purpose,
    status: 'pending',
    file: null,
  }
  return keepUpload(deps.store, tenant, { upload, fileExpiresAfter: ask.expires_after?.seconds })
}

interface IncomingPart {
  tenant: Tenant
  uploadId: string
  /** Of the part. */
  id: string
  form: FormBody
  /** Bytes of the form. */
  announced: number
}

/**
 * Stores a part, unless a repeated request finds it. An upload takes no more than the bytes that it was created with.
 * @throws TurbineError `upload_not_found`, `part_empty`, those of `readForm`, `assertPartFits` and `storing`
 */
async function addPart(deps: EdgeDeps, incoming: IncomingPart): Promise<UploadPart> {
  const { store, now } = deps
  const { tenant, uploadId, id, announced } = incoming
  const { upload } = await requireUpload(deps, tenant.id, uploadId)
  assertPending(upload)
  const key = keys.uploadPart(tenant.id, uploadId, id)
  if (!(await store.head(key)))
    await storing(deps, { tenant, area: 'uploads', announced }, async (room) => {
      try {
        const bytes = await receivePart(deps, incoming, { key, upload, room })
        await assertPartFits(deps, tenant.id, upload)
        return { value: undefined, bytes }
      } catch (error) {
        // A failed clean-up must not hide the cause.
        await store.delete(key).catch(() => undefined)
        throw error
      }
    })
  return { id, object: 'upload.part', created_at: Math.floor(now() / 1000), upload_id: uploadId }
}

async function receivePart(
  { store }: EdgeDeps,
  { tenant, form }: IncomingPart,
  { key, upload, room }: { key: string; upload: Upload; room: number },
): Promise<number> {
  const tooLarge = () => {
    if (room < Math.min(maxPartBytes, upload.bytes))
      return storageExceeded(tenant, tenant.limits.storageBytes! - room)
    return upload.bytes < maxPartBytes ? bytesExceeded(upload.bytes) : partTooLarge()
  }
  const { bytes } = await readForm(form, {
    fileField: 'data',
    maxBytes: Math.min(maxPartBytes, upload.bytes, room),
    tooLarge,
    receive: (stream) => store.put(key, stream),
  })
  if (bytes === 0) throw invalid('part_empty', 'The part is empty.', 'data')
  return bytes
}

const partTooLarge = () =>
  new TurbineError(`The part has more than ${maxPartBytes} bytes. Send smaller parts.`, {
    status: 413,
    code: 'file_too_large',
    param: 'data',
  })

/**
 * Assembles the parts into a file. A retry finds the result of the first request and finishes what it left undone.
 * @throws TurbineError `upload_not_found`, `upload_not_pending`, `upload_changed`, `md5_mismatch`, those of
 * `slicesOfParts`; StoreUnavailableError; the signal's reason when the caller leaves
 */
async function complete(
  deps: EdgeDeps,
  { tenant, id, signal }: { tenant: string; id: string; signal: AbortSignal },
  { part_ids, md5 }: UploadCompletion,
): Promise<Upload> {
  const { store } = deps
  const stored = await requireUpload(deps, tenant, id)
  if (stored.upload.status !== 'completed') assertPending(stored.upload)
  const slices = await slicesOfParts(store, tenant, stored.upload, part_ids)
  if (md5 !== undefined) await assertMd5(deps, slices, { md5, signal })
  const { upload, file } = stored.upload.file
    ? { ...stored, file: stored.upload.file }
    : await settle(deps, tenant, stored)
  const kept = await keepFile(store, tenant, { file, slices })
  await removeParts(store, tenant, id, new Set(kept.slices.map(({ key }) => key)))
  return upload
}

/** Marks the upload completed before its file is stored: from then on it cannot be cancelled. */
async function settle({ store, now }: EdgeDeps, tenant: string, stored: ReadUpload) {
  const { id, bytes, filename } = stored.upload
  const created_at = Math.floor(now() / 1000)
  const expiry = expiryOf(created_at, stored.fileExpiresAfter)
  const file = newFile({ id: fileIdOf(id), bytes, created_at, filename, ...expiry })
  const upload: Upload = { ...stored.upload, status: 'completed', file }
  await replaceUpload(store, tenant, { ...stored, upload })
  return { upload, file }
}

/** A retried completion makes the same file. */
const fileIdOf = (uploadId: string) => uploadId.replace('upload_', 'file-')

async function assertMd5(
  deps: EdgeDeps,
  slices: Slice[],
  { md5, signal }: { md5: string; signal: AbortSignal },
): Promise<void> {
  const hash = createHash('md5')
  for await (const chunk of readSlices(slices, deps, signal)) hash.update(chunk)
  const actual = hash.digest('hex')
  if (actual === md5.toLowerCase()) return
  throw invalid('md5_mismatch', `The MD5 of the parts is ${actual}, not ${md5}. Start a new upload.`, 'md5')
}
