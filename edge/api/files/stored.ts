import { deleteAll, putOnce } from '../../../infra/store/json.ts'
import { getJson, type ObjectStore } from '../../../infra/store/store.ts'
import { notFound } from '../../contract/errors.ts'
import type { File, StoredFile } from '../../contract/file.ts'
import { keys } from '../../contract/keys.ts'
import type { StorageArea } from '../../contract/usage.ts'
import type { EdgeDeps } from '../../deps.ts'

type FileDeps = Pick<EdgeDeps, 'store' | 'now'>

const fileIdPattern = /^file-[\w-]{1,128}$/

/** Reads a file; an expired one is deleted and counts as missing. */
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
  throw notFound('file', id, 'GET /v1/files lists all files.')
}

/** Stores a file, unless one with its id exists. @returns the stored one */
export function keepFile(store: ObjectStore, tenant: string, stored: StoredFile): Promise<StoredFile> {
  return putOnce(store, keys.file(tenant, stored.file.id), stored)
}

/** Deletes a file's content, then the file, so that a failure can be retried. Content in a caller's bucket stays. */
export async function removeFile(store: ObjectStore, tenant: string, { file, slices }: StoredFile) {
  const own = slices.filter(({ bucket }) => bucket === undefined).map(({ key }) => key)
  await deleteAll(store, own)
  await store.delete(keys.file(tenant, file.id))
}

/** Bytes of a file's content in an area of its tenant's storage. */
export function bytesIn({ slices }: StoredFile, tenant: string, area: StorageArea): number {
  const prefix = `${area}/${tenant}/`
  return slices
    .filter(({ bucket, key }) => bucket === undefined && key.startsWith(prefix))
    .reduce((sum, { start, end }) => sum + end - start, 0)
}

/** Expiry of a file created at `createdAt`, unix seconds. */
export const expiryOf = (createdAt: number, expiresAfterSeconds: number | undefined) =>
  expiresAfterSeconds === undefined ? {} : { expires_at: createdAt + expiresAfterSeconds }

export const newFile = (file: Omit<File, 'object' | 'status' | 'purpose'>): File => ({
  ...file,
  object: 'file',
  purpose: 'batch',
  status: 'processed',
})
