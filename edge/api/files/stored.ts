import { deleteAll, putOnce } from '../../../infra/store/json.ts'
import { getJson, type ObjectStore } from '../../../infra/store/store.ts'
import { TurbineError } from '../../contract/errors.ts'
import type { File, StoredFile } from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import type { EdgeDeps } from '../../deps.ts'

type FileDeps = Pick<EdgeDeps, 'store' | 'now'>

/** What a file of the service may be called by. */
const fileIdPattern = /^file-[\w-]{1,128}$/

/** The tenant's file; undefined when there is none. One whose time is over is removed by the way. */
export async function findFile(deps: FileDeps, tenant: string, id: string): Promise<StoredFile | undefined> {
  if (!fileIdPattern.test(id)) return undefined
  const stored = await getJson<StoredFile>(deps.store, keys.file(tenant, id))
  if (stored?.file.expires_at === undefined || deps.now() < stored.file.expires_at * 1000) return stored
  await removeFile(deps.store, tenant, stored)
  return undefined
}

/** @throws TurbineError `file_not_found` */
export async function requireFile(deps: FileDeps, tenant: string, id: string): Promise<StoredFile> {
  const stored = await findFile(deps, tenant, id)
  if (stored) return stored
  throw new TurbineError(`There is no file "${id.slice(0, 80)}". GET /v1/files lists what there is.`, {
    status: 404,
    code: 'file_not_found',
    param: 'id',
  })
}

/** Keeps a file, unless one of its id is kept already. @returns the one that is kept */
export function keepFile(store: ObjectStore, tenant: string, stored: StoredFile): Promise<StoredFile> {
  return putOnce(store, keys.file(tenant, stored.file.id), stored)
}

/**
 * Removes a file's bytes and then the file, so that what fails on the way can be repeated. What lies in a caller's
 * bucket is the caller's and stays.
 */
export async function removeFile(store: ObjectStore, tenant: string, { file, slices }: StoredFile) {
  const own = slices.filter(({ bucket }) => bucket === undefined)
  await deleteAll(
    store,
    own.map(({ key }) => key),
  )
  await store.delete(keys.file(tenant, file.id))
}

/** When a file expires that was made at `createdAt`, unix seconds. */
export const expiryOf = (createdAt: number, expiresAfterSeconds: number | undefined) =>
  expiresAfterSeconds === undefined ? {} : { expires_at: createdAt + expiresAfterSeconds }

/** A file as it is answered when it has just come. */
export const newFile = (file: Omit<File, 'object' | 'status' | 'purpose'>): File => ({
  ...file,
  object: 'file',
  purpose: 'batch',
  status: 'processed',
})
