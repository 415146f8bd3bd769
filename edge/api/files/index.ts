import type { OpenAPIHono } from '@hono/zod-openapi'
import { invalid } from '../../contract/errors.ts'
import { cutFilename, type File, maxFileBytes } from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import { parse } from '../../contract/parse.ts'
import type { Tenant } from '../../contract/tenant.ts'
import type { EdgeDeps, EdgeEnv } from '../../deps.ts'
import { receiveStream } from '../../guard/body.ts'
import { createdOnce } from '../../guard/idempotency.ts'
import { addUsage, storageExceeded, storing } from '../../guard/storage.ts'
import { readPage } from '../pages.ts'
import { queryOf } from '../read.ts'
import { documented } from '../responses.ts'
import { answerContent } from './content.ts'
import { assertPlace } from './download.ts'
import { announcedBytes, type FormBody, formOf, formOverheadBytes, readForm } from './form.ts'
import {
  createFile,
  deleteFile,
  fileFormSchema,
  fileListQuerySchema,
  getFile,
  getFileContent,
  listFiles,
  maxPageFiles,
} from './routes.ts'
import { bytesIn, expiryOf, findFile, keepFile, newFile, removeFile, requireFile } from './stored.ts'

/** `/v1/files`: upload, list, retrieve, content, delete, in OpenAI's format. */
export function addFiles(app: OpenAPIHono<EdgeEnv>, deps: EdgeDeps): void {
  const body = receiveStream(deps, {
    maxBytes: maxFileBytes + formOverheadBytes,
    remedy: 'Upload it in parts: POST /v1/uploads.',
  })
  app.post(documented(app, createFile), body, async (c) => {
    const tenant = c.get('tenant')
    const incoming = { tenant, form: formOf(c), announced: announcedBytes(c) }
    const make = (id: string) => storeFile(deps, { ...incoming, id })
    return c.json(await createdOnce(c, deps, { prefix: 'file-' }, make), 200)
  })

  app.get(documented(app, listFiles), async (c) => {
    const { after, limit, order, purpose } = parse(fileListQuerySchema, queryOf(c))
    const tenant = c.get('tenant').id
    const page = await readPage<File>(deps.store, {
      prefix: keys.files(tenant),
      after,
      limit: Math.min(limit, maxPageFiles),
      order,
      log: deps.log,
      read: async (id) => {
        const file = (await findFile(deps, tenant, id))?.file
        return purpose === undefined || file?.purpose === purpose ? file : undefined
      },
    })
    return c.json(page, 200)
  })

  app.get(documented(app, getFile), async (c) =>
    c.json((await requireFile(deps, c.get('tenant').id, c.req.param('id'))).file, 200),
  )

  app.get(documented(app, getFileContent), async (c) => {
    const tenant = c.get('tenant').id
    // Before anything is read from the store; HEAD takes no place.
    if (c.req.method !== 'HEAD') assertPlace(deps.downloads, tenant)
    return answerContent(c, deps, await requireFile(deps, tenant, c.req.param('id')))
  })

  app.delete(documented(app, deleteFile), async (c) => {
    const tenant = c.get('tenant')
    const stored = await requireFile(deps, tenant.id, c.req.param('id'))
    await removeFile(deps.store, tenant.id, stored)
    for (const area of ['files', 'uploads'] as const)
      await addUsage(deps, tenant, area, -bytesIn(stored, tenant.id, area))
    return c.json({ id: stored.file.id, object: 'file', deleted: true }, 200)
  })
}

interface IncomingFile {
  tenant: Tenant
  id: string
  form: FormBody
  /** Bytes of the form. */
  announced: number
}

/**
 * Streams a form's file into the store. Each request has its own content key, so that concurrent requests for the same
 * file do not interfere.
 * @throws TurbineError of `readForm` and `parse`, `file_empty`, `storage_limit_exceeded`; StoreUnavailableError
 */
async function storeFile(deps: EdgeDeps, incoming: IncomingFile): Promise<File> {
  const { tenant, id, announced } = incoming
  const made = await findFile(deps, tenant.id, id)
  if (made) return made.file
  const content = keys.fileContent(tenant.id, `${id}-${deps.newId()}`)
  return storing(deps, { tenant, area: 'files', announced }, async (room) => {
    const file = await receiveFile(deps, incoming, { content, room })
    const slices = [{ key: content, start: 0, end: file.bytes }]
    const kept = await keepFile(deps.store, tenant.id, { file, slices })
    const isOurs = kept.slices.some(({ key }) => key === content)
    if (!isOurs) await deps.store.delete(content)
    return { value: kept.file, bytes: isOurs ? file.bytes : 0 }
  })
}

/** Stores at most `room` bytes under the key `content`; a failure leaves nothing there. */
async function receiveFile(
  deps: EdgeDeps,
  { id, form, tenant }: IncomingFile,
  { content, room }: { content: string; room: number },
): Promise<File> {
  const { store, now } = deps
  try {
    const { fields, filename, bytes } = await readForm(form, {
      fileField: 'file',
      maxBytes: Math.min(maxFileBytes, room),
      tooLarge:
        room < maxFileBytes ? () => storageExceeded(tenant, tenant.limits.storageBytes! - room) : undefined,
      receive: (stream) => store.put(content, stream),
    })
    const { expires_after } = parse(fileFormSchema, fields)
    if (bytes === 0) throw invalid('file_empty', 'The file is empty. Send one line per image.', 'file')
    const created_at = Math.floor(now() / 1000)
    return newFile({
      id,
      bytes,
      created_at,
      ...expiryOf(created_at, expires_after?.seconds),
      filename: cutFilename(filename || 'upload'),
    })
  } catch (error) {
    // A failed clean-up must not hide the cause.
    await store.delete(content).catch(() => undefined)
    throw error
  }
}
