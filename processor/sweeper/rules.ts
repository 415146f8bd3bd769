import pMap from 'p-map'
import { isFinal, type StoredBatch } from '../../edge/contract/batch.ts'
import type { StoredFile, StoredUpload } from '../../edge/contract/file.ts'
import { keys } from '../../edge/contract/keys.ts'
import type { StorageArea } from '../../edge/contract/usage.ts'
import { DamagedObjectError, getJson, type ObjectInfo, type ObjectStore } from '../../infra/store/store.ts'

/** What a rule needs to know. Times are unix ms. */
export interface Sweep {
  store: Pick<ObjectStore, 'get'>
  now: number
  /** Start of the sweep before: what was older than a day then has been looked at. 0 if there was none. */
  previousStart: number
  /** Time for which results of interactive requests are kept; undefined: for ever. */
  captionRetentionMs: number | undefined
}

/** Objects below a prefix, and which of them nobody needs any longer. */
export interface Rule {
  /** Name in metrics. */
  kind: string
  prefix: string
  /** Area of the storage whose bytes are counted by the way, by tenant. */
  area?: StorageArea
  /** Selects keys to delete, also others than those of the page. Deleting them twice does no harm. */
  outdated(page: ObjectInfo[], sweep: Sweep): Promise<string[]> | string[]
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Longer than any request that may still write what belongs to an object. */
const orphanedAfterMs = dayMs
/** Uploads that have ended, or expired, stay visible. */
const uploadRetentionMs = 30 * dayMs
/** Retries with an `Idempotency-Key` are recognised for a day. */
const claimRetentionMs = 2 * dayMs
/** Longer than records stay in the stream. */
const markRetentionMs = 15 * dayMs
/** A planner that is alive writes its backlog every few seconds. */
const backlogRetentionMs = dayMs
/** Longer than any completion window. */
const batchWorkRetentionMs = 40 * dayMs
const readsAtOnce = 8

/** Selects by age alone. */
const olderThan =
  (maxAgeMs: (sweep: Sweep) => number | undefined): Rule['outdated'] =>
  (page, sweep) => {
    const age = maxAgeMs(sweep)
    return age === undefined ? [] : keysOf(page.filter(({ lastModified }) => lastModified < sweep.now - age))
  }

export const rules: readonly Rule[] = [
  {
    kind: 'captions',
    prefix: 'captions/',
    outdated: olderThan(({ captionRetentionMs }) => captionRetentionMs),
  },
  { kind: 'idempotency_keys', prefix: 'idempotency/', outdated: olderThan(() => claimRetentionMs) },
  { kind: 'crash_marks', prefix: 'crashes/', outdated: olderThan(() => markRetentionMs) },
  { kind: 'backlogs', prefix: keys.backlogs, outdated: olderThan(() => backlogRetentionMs) },
  { kind: 'uploads', prefix: 'uploads/', area: 'uploads', outdated: outdatedUploads },
  { kind: 'files', prefix: 'files/', area: 'files', outdated: outdatedFiles },
  { kind: 'batch_work', prefix: 'batch-work/', outdated: outdatedBatchWork },
]

/** Tenant and area of an object whose bytes count; undefined for others. */
export function contentOwner(key: string): string | undefined {
  return /^(?:files|uploads)\/([^/]+)\/content\//.exec(key)?.[1]
}

async function outdatedUploads(page: ObjectInfo[], { store, now }: Sweep): Promise<string[]> {
  const infos = page.filter(({ key }) => /^uploads\/[^/]+\/info\//.test(key))
  const ended = infos.filter(({ lastModified }) => lastModified < now - uploadRetentionMs)
  const parts = page.filter(
    ({ key, lastModified }) => contentOwner(key) !== undefined && lastModified < now - hourMs,
  )
  const byUpload = Map.groupBy(parts, ({ key }) => key.slice(0, key.lastIndexOf('/')))
  const unneeded = async ([path, group]: [string, ObjectInfo[]]) => {
    const [, tenant = '', , id = ''] = path.split('/')
    const needed = await neededParts(store, { tenant, id, now })
    return needed === 'all' ? [] : group.filter((part) => !needed(part))
  }
  const lists = await pMap(byUpload, unneeded, { concurrency: readsAtOnce })
  return [...keysOf(ended), ...keysOf(lists.flat())]
}

/** Parts that a pending upload, or the file of a completed one, needs. */
async function neededParts(
  store: Sweep['store'],
  { tenant, id, now }: { tenant: string; id: string; now: number },
): Promise<'all' | ((part: ObjectInfo) => boolean)> {
  const stored = await readIfSound<StoredUpload>(store, keys.upload(tenant, id))
  if (stored === 'damaged') return 'all'
  const status = stored?.upload.status
  // A completion that began in time may not be over yet.
  if (status === 'pending') return now > stored!.upload.expires_at * 1000 + hourMs ? () => false : 'all'
  if (status === 'cancelled' || status === 'expired') return () => false
  const file = await readIfSound<StoredFile>(store, keys.file(tenant, id.replace('upload_', 'file-')))
  if (file === 'damaged') return 'all'
  const kept = new Set(file?.slices.map(({ key }) => key))
  return ({ key, lastModified }) => kept.has(key) || lastModified > now - orphanedAfterMs
}

async function outdatedFiles(page: ObjectInfo[], { store, now, previousStart }: Sweep): Promise<string[]> {
  const [contents, infos] = [[] as ObjectInfo[], [] as ObjectInfo[]]
  for (const object of page) (contentOwner(object.key) === undefined ? infos : contents).push(object)
  const expired = async ({ key }: ObjectInfo): Promise<string[]> => {
    const stored = await readIfSound<StoredFile>(store, key)
    if (!stored || stored === 'damaged' || !isExpired(stored, now)) return []
    const own = stored.slices.filter(({ bucket }) => bucket === undefined)
    return [...own.map((slice) => slice.key), key]
  }
  const orphaned = async ({ key }: ObjectInfo): Promise<string[]> =>
    (await isReferenced(store, key)) ? [] : [key]
  // A file expires an hour after its creation at the earliest; an upload that died is looked at once.
  const old = infos.filter(({ lastModified }) => lastModified < now - hourMs)
  const unseen = contents.filter(
    ({ lastModified }) =>
      lastModified < now - orphanedAfterMs && lastModified >= previousStart - orphanedAfterMs - hourMs,
  )
  const options = { concurrency: readsAtOnce }
  return [...(await pMap(old, expired, options)), ...(await pMap(unseen, orphaned, options))].flat()
}

const isExpired = ({ file }: StoredFile, now: number) =>
  file.expires_at !== undefined && now >= file.expires_at * 1000

/** True when a file has this content: one of the same name, or of the name before its request's own id. */
async function isReferenced(store: Sweep['store'], content: string): Promise<boolean> {
  const [, tenant = '', , name = ''] = content.split('/')
  const ids = new Set([name, name.split('-').slice(0, 2).join('-')])
  for (const id of ids) {
    const stored = await readIfSound<StoredFile>(store, keys.file(tenant, id))
    if (stored === 'damaged' || stored?.slices.some(({ key }) => key === content)) return true
  }
  // The files of a batch are written before they are visible.
  const batch = /^file-(.+)-(?:output|error)$/.exec(name)?.[1]
  if (batch === undefined) return false
  const stored = await readIfSound<StoredBatch>(store, keys.batch(tenant, `batch_${batch}`))
  return stored === 'damaged' || (stored !== undefined && !isFinal(stored.batch.status))
}

/** What batches that ended, or are gone, left behind. */
async function outdatedBatchWork(page: ObjectInfo[], { store, now }: Sweep): Promise<string[]> {
  const old = page.filter(({ lastModified }) => lastModified < now - batchWorkRetentionMs)
  const byBatch = Map.groupBy(old, ({ key }) => key.split('/').slice(0, 3).join('/'))
  const ended = async ([path, group]: [string, ObjectInfo[]]) => {
    const [, tenant = '', id = ''] = path.split('/')
    const stored = await readIfSound<StoredBatch>(store, keys.batch(tenant, id))
    return stored === 'damaged' || (stored && !isFinal(stored.batch.status)) ? [] : keysOf(group)
  }
  return (await pMap(byBatch, ended, { concurrency: readsAtOnce })).flat()
}

/** What cannot be read stays, for the operator. */
async function readIfSound<T>(store: Sweep['store'], key: string): Promise<T | undefined | 'damaged'> {
  try {
    return await getJson<T>(store, key)
  } catch (error) {
    if (error instanceof DamagedObjectError) return 'damaged'
    throw error
  }
}

const keysOf = (objects: readonly ObjectInfo[]) => objects.map(({ key }) => key)
