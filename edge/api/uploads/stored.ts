import { deleteAll, getVersioned, putOnce, swapJson } from '../../../infra/store/json.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import { listPages, type ObjectInfo, type ObjectStore } from '../../../infra/store/store.ts'
import { excerpt, invalid, notFound, TurbineError } from '../../contract/errors.ts'
import { maxParts, type StoredUpload, type Upload } from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import type { EdgeDeps } from '../../deps.ts'

type UploadDeps = Pick<EdgeDeps, 'store' | 'now'>

/** Upload as read, with the version that it may replace. */
export interface ReadUpload extends StoredUpload {
  etag: string
}

const uploadIdPattern = /^upload_[\w-]{1,128}$/

/**
 * Reads an upload. One past its expiry becomes `expired`, and its parts are deleted.
 * @throws TurbineError `upload_not_found`
 */
export async function requireUpload(deps: UploadDeps, tenant: string, id: string): Promise<ReadUpload> {
  const key = uploadIdPattern.test(id) ? keys.upload(tenant, id) : undefined
  const found = key && (await getVersioned<StoredUpload>(deps.store, key))
  if (!found) throw notFound('upload', id, 'Create one: POST /v1/uploads.')
  const stored = { ...found.value, etag: found.etag }
  const expired = stored.upload.status === 'pending' && deps.now() >= stored.upload.expires_at * 1000
  return expired ? endUpload(deps.store, tenant, stored, 'expired') : stored
}

/** @throws TurbineError `upload_not_pending` */
export function assertPending({ id, status }: Upload): void {
  if (status !== 'pending')
    throw invalid(
      'upload_not_pending',
      `The upload ${id} is ${status}. Create a new one: POST /v1/uploads.`,
      'id',
    )
}

/** Stores a new upload, unless one with its id exists. @returns the stored one */
export async function keepUpload(store: ObjectStore, tenant: string, stored: StoredUpload): Promise<Upload> {
  return (await putOnce(store, keys.upload(tenant, stored.upload.id), stored)).upload
}

/** @throws TurbineError `upload_changed` (retriable) when another request was faster */
export async function replaceUpload(
  store: ObjectStore,
  tenant: string,
  { etag, ...stored }: ReadUpload,
): Promise<ReadUpload> {
  const replaced = await swapJson(store, keys.upload(tenant, stored.upload.id), stored, etag)
  if (replaced === undefined)
    throw new TurbineError('The upload was completed or cancelled by another request. Retry the request.', {
      status: 409,
      code: 'upload_changed',
      param: 'id',
      retryAfterSeconds: 1,
      retriable: true,
    })
  return { ...stored, etag: replaced }
}

/**
 * Ends an upload without a file, and deletes its parts.
 * @throws TurbineError `upload_changed`
 */
export async function endUpload(
  store: ObjectStore,
  tenant: string,
  stored: ReadUpload,
  status: 'cancelled' | 'expired',
): Promise<ReadUpload & { freedBytes: number }> {
  const upload = { ...stored.upload, status }
  const ended = await replaceUpload(store, tenant, { ...stored, upload })
  return { ...ended, freedBytes: await removeParts(store, tenant, upload.id) }
}

/** Deletes an upload's parts, except those under the keys `kept`. @returns bytes of those that were deleted */
export async function removeParts(
  store: ObjectStore,
  tenant: string,
  upload: string,
  kept: ReadonlySet<string> = new Set(),
): Promise<number> {
  const removable = (await listParts(store, tenant, upload)).filter(({ key }) => !kept.has(key))
  await deleteAll(
    store,
    removable.map(({ key }) => key),
  )
  return bytesOf(removable)
}

/** At most a little more than `maxParts`. */
async function listParts(store: ObjectStore, tenant: string, upload: string): Promise<ObjectInfo[]> {
  const parts: ObjectInfo[] = []
  for await (const page of listPages(store, keys.uploadParts(tenant, upload))) parts.push(...page)
  return parts
}

const bytesOf = (parts: readonly ObjectInfo[]) => parts.reduce((sum, { size }) => sum + size, 0)

/**
 * Checks, after a part was stored, that the upload still takes it: parts that come at the same time are all seen.
 * @throws TurbineError `upload_not_pending`, `upload_bytes_exceeded`, `too_many_parts`
 */
export async function assertPartFits(deps: UploadDeps, tenant: string, { id, bytes }: Upload): Promise<void> {
  assertPending((await requireUpload(deps, tenant, id)).upload)
  const parts = await listParts(deps.store, tenant, id)
  if (parts.length > maxParts)
    throw invalid('too_many_parts', `An upload has at most ${maxParts} parts. Send larger ones.`, 'data')
  if (bytesOf(parts) > bytes) throw bytesExceeded(bytes)
}

export const bytesExceeded = (bytes: number) =>
  new TurbineError(
    `The upload was created with ${bytes} bytes, and its parts would have more. Create a new upload with the bytes of the whole file; to repeat a part safely, send it with an Idempotency-Key.`,
    { status: 413, code: 'upload_bytes_exceeded', param: 'data' },
  )

/**
 * Slices of the parts, in the order of `partIds`.
 * @throws TurbineError `part_not_found`, `part_repeated`, `bytes_mismatch`
 */
export async function slicesOfParts(
  store: ObjectStore,
  tenant: string,
  { id, bytes }: Upload,
  partIds: readonly string[],
): Promise<Slice[]> {
  const sizes = new Map<string, number>()
  for await (const page of listPages(store, keys.uploadParts(tenant, id)))
    for (const { key, size } of page) sizes.set(key, size)
  if (new Set(partIds).size < partIds.length)
    throw invalid('part_repeated', 'A part is listed twice.', 'part_ids')
  const slices = partIds.map((part) => {
    const key = keys.uploadPart(tenant, id, part)
    const size = sizes.get(key)
    if (size === undefined)
      throw invalid('part_not_found', `The upload has no part "${excerpt(part)}". Add it first.`, 'part_ids')
    return { key, start: 0, end: size }
  })
  const total = slices.reduce((sum, { end }) => sum + end, 0)
  if (total !== bytes)
    throw invalid(
      'bytes_mismatch',
      `The parts have ${total} bytes in total, but the upload was created with ${bytes}. Add the missing parts, or create a new upload.`,
      'part_ids',
    )
  return slices
}
