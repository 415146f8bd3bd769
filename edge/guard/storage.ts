import { backoffMs } from '../../infra/retry.ts'
import { getVersioned, swapJson } from '../../infra/store/json.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import { sleep } from '../../infra/timing.ts'
import { TurbineError } from '../contract/errors.ts'
import { keys } from '../contract/keys.ts'
import type { Tenant } from '../contract/tenant.ts'
import { noUsage, type StorageArea, type StorageUsage, totalUsage } from '../contract/usage.ts'
import type { Log } from '../deps.ts'

interface StorageDeps {
  store: Pick<ObjectStore, 'get' | 'put'>
  log: Log
}

export interface StoringOptions {
  tenant: Tenant
  area: StorageArea
  /** Bytes that are announced; 0 if unknown. */
  announced: number
}

/** Writers of one counter that come first at most; beyond that the sweeper counts. */
const maxTries = 8

/**
 * Stores something within the tenant's storage limit: reserves what is announced, then counts what is stored. Costs
 * nothing without a limit.
 * @param store stores at most `room` bytes; returns how many with its result
 * @throws TurbineError `storage_limit_exceeded`, and what `store` throws
 */
export async function storing<T>(
  deps: StorageDeps,
  { tenant, area, announced }: StoringOptions,
  store: (room: number) => Promise<{ bytes: number; value: T }>,
): Promise<T> {
  const limit = tenant.limits.storageBytes
  if (limit === undefined) return (await store(Number.POSITIVE_INFINITY)).value
  const used = await change(deps, tenant.id, (usage) => {
    if (totalUsage(usage) + Math.max(announced, 1) > limit) throw storageExceeded(tenant, totalUsage(usage))
    return { ...usage, [area]: usage[area] + announced }
  })
  let bytes = 0
  try {
    const stored = await store(Math.max(0, limit - totalUsage(used) + announced))
    bytes = stored.bytes
    return stored.value
  } finally {
    await addUsage(deps, tenant, area, bytes - announced)
  }
}

/** Counts bytes that are stored, or deleted, for a tenant with a limit. Never rejects. */
export async function addUsage(
  deps: StorageDeps,
  { id, limits }: Tenant,
  area: StorageArea,
  bytes: number,
): Promise<void> {
  if (limits.storageBytes === undefined || bytes === 0) return
  const add = (usage: StorageUsage) => ({ ...usage, [area]: Math.max(0, usage[area] + bytes) })
  await change(deps, id, add).catch((err: unknown) =>
    deps.log.warn({ err, tenant: id }, 'stored bytes not counted; the sweeper corrects it'),
  )
}

/** @throws TurbineError `storage_limit_exceeded` when the tenant stores more than it may */
export async function assertStorage({ store }: StorageDeps, tenant: Tenant): Promise<void> {
  const limit = tenant.limits.storageBytes
  if (limit === undefined) return
  const used = totalUsage((await getJson<StorageUsage>(store, keys.usage(tenant.id))) ?? noUsage)
  if (used >= limit) throw storageExceeded(tenant, used)
}

export const storageExceeded = ({ limits }: Tenant, used: number) =>
  new TurbineError(
    `The storage limit of this tenant is ${limits.storageBytes} bytes, of which ${used} are used. Delete files that are no longer needed (DELETE /v1/files/{id}), or ask the operator for more.`,
    { status: 403, code: 'storage_limit_exceeded' },
  )

/** Changes the counter; when others keep coming first, it stays as it is. */
async function change(
  { store }: StorageDeps,
  tenant: string,
  to: (usage: StorageUsage) => StorageUsage,
): Promise<StorageUsage> {
  const key = keys.usage(tenant)
  for (let tries = 1; ; tries++) {
    const found = await getVersioned<StorageUsage>(store, key)
    const usage = to(found?.value ?? noUsage)
    const done = await swapJson(store, key, usage, found?.etag)
    if (done !== undefined || tries === maxTries) return usage
    await sleep(Math.random() * backoffMs(tries))
  }
}
