import { keys } from '../../../edge/contract/keys.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import {
  type Grant,
  isGranted,
  type S3Address,
  type Tenant,
  tenantSchema,
} from '../../../edge/contract/tenant.ts'
import { MissingSliceError, type SliceStores } from '../../../infra/store/slices.ts'
import { getJson, type ObjectStore } from '../../../infra/store/store.ts'

/** Reads a tenant; one that was never written has no grants. */
export const readTenant = async (store: Pick<ObjectStore, 'get'>, id: string): Promise<Tenant> =>
  tenantSchema.parse((await getJson(store, keys.tenant(id))) ?? { id })

/** Checks a grant of a tenant as it is now: it may have been revoked since a batch was created. */
export async function isStillGranted(
  { store, ownBucket }: Pick<SliceStores, 'store' | 'ownBucket'>,
  tenant: string,
  access: Grant['access'],
  address: S3Address,
): Promise<boolean> {
  return isGranted(await readTenant(store, tenant), access, address, ownBucket)
}

/** The tenant may no longer read the manifest. */
export class ManifestRevokedError extends MissingSliceError {}

/** @throws ManifestRevokedError when the lines of a shard are in a bucket that the tenant may no longer read */
export async function assertManifestGranted(
  { tenant, slices }: ShardJob,
  stores: SliceStores,
): Promise<void> {
  for (const { bucket, key } of slices) {
    if (bucket === undefined || (await isStillGranted(stores, tenant, 'read', { bucket, key }))) continue
    throw new ManifestRevokedError(`The tenant may no longer read s3://${bucket}/${key}.`)
  }
}
