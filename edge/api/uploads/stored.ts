import { deleteAll, getVersioned, putOnce, swapJson } from '../../../infra/store/json.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import { listPages, type ObjectStore } from '../../../infra/store/store.ts'
import { TurbineError } from '../../contract/errors.ts'
import type { StoredUpload, Upload } from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import type { EdgeDeps } from '../../deps.ts'

type UploadDeps = Pick<EdgeDeps, 'store' | 'now'>

/** An upload as it was read, and the version that it may be replaced in. */
export interface ReadUpload extends StoredUpload {
  etag: string
}

const uploadIdPattern = /^upload_[\w-]{1,128}$/

/**
 * The tenant's upload. One whose time is over is `expired`, and its parts are removed by the way.
 * @throws TurbineError `upload_not_found`
 */
export async function requireUpload(deps: UploadDeps, tenant: string, id: string): Promise<ReadUpload> {
  const key = uploadIdPattern.test(id) ? keys.upload(tenant, id) : undefined
  const found = key && (await getVersioned<StoredUpload>(deps.store, key))
  if (!found)
    throw new TurbineError(`There is no upload "${id.slice(0, 80)}". Begin one: POST /v1/uploads.`, {
      status: 404,
      code: 'upload_not_found',
      param: 'id',
    })
  const stored = { ...found.value, etag: found.etag }
  const expired = stored.upload.status === 'pending' && deps.now() >= stored.upload.expires_at * 1000
  return expired ? endUpload(deps.store, tenant, stored, 'expired') : stored
}

/** @throws TurbineError `upload_not_pending` */
export function assertPending({ id, status }: Upload): void {
  if (status === 'pending') return
  throw new TurbineError(`The upload ${id} is ${status}. Begin a new one: POST /v1/uploads.`, {
    status: 400,
    code: 'upload_not_pending',
    param: 'id',
  })
}

/** Begins an upload, unless there is one of its id already. @returns the one that is kept */
export async function keepUpload(store: ObjectStore, tenant: string, stored: StoredUpload): Promise<Upload> {
  return (await putOnce(store, keys.upload(tenant, stored.upload.id), stored)).upload
}

/** @throws TurbineError `upload_changed` (retriable) when another request was first */
export async function replaceUpload(
  store: ObjectStore,
  tenant: string,
  { etag, ...stored }: ReadUpload,
): Promise<ReadUpload> {
  const replaced = await swapJson(store, keys.upload(tenant, stored.upload.id), stored, etag)
  if (replaced === undefined)
    throw new TurbineError(
      'The upload was completed or cancelled by another request meanwhile. Send the request again.',
      { status: 409, code: 'upload_changed', param: 'id', retryAfterSeconds: 1, retriable: true },
    )
  return { ...stored, etag: replaced }
}

/**
 * Ends an upload without a file, and removes its parts.
 * @throws TurbineError `upload_changed`
 */
export async function endUpload(
  store: ObjectStore,
  tenant: string,
  stored: ReadUpload,
  status: 'cancelled' | 'expired',
): Promise<ReadUpload> {
  const upload = { ...stored.upload, status }
  const ended = await replaceUpload(store, tenant, { ...stored, upload })
  await removeParts(store, tenant, upload.id)
  return ended
}

/** Removes an upload's parts but those under the keys `kept`. */
export async function removeParts(
  store: ObjectStore,
  tenant: string,
  upload: string,
  kept: ReadonlySet<string> = new Set(),
): Promise<void> {
  const removable: string[] = []
  for await (const page of listPages(store, keys.uploadParts(tenant, upload)))
    removable.push(...page.map(({ key }) => key).filter((key) => !kept.has(key)))
  await deleteAll(store, removable)
}

/**
 * Where the parts lie, in the order of their ids.
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
  if (new Set(partIds).size < partIds.length) throw badParts('part_repeated', 'A part is named twice.')
  const slices = partIds.map((part) => {
    const key = keys.uploadPart(tenant, id, part)
    const size = sizes.get(key)
    if (size === undefined)
      throw badParts('part_not_found', `The upload has no part "${part.slice(0, 80)}". Add it first.`)
    return { key, start: 0, end: size }
  })
  const total = slices.reduce((sum, { end }) => sum + end, 0)
  if (total !== bytes)
    throw badParts(
      'bytes_mismatch',
      `The parts have ${total} bytes together, but the upload was announced with ${bytes}. Add what is missing, or begin a new one.`,
    )
  return slices
}

const badParts = (code: string, message: string) =>
  new TurbineError(message, { status: 400, code, param: 'part_ids' })
