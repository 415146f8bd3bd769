import { readAll, swapJson } from '../../infra/store/json.ts'
import type { DamagedObjectError, ObjectStore } from '../../infra/store/store.ts'
import { TurbineError } from '../contract/errors.ts'
import { keys } from '../contract/keys.ts'
import { type Grant, type Tenant, tenantSchema } from '../contract/tenant.ts'

const maxTries = 8

/** Reads a tenant; one that was never written has no grants and no limits. @throws TurbineError */
export async function readTenant(store: ObjectStore, id: string): Promise<Tenant> {
  return (await load(store, id)).tenant
}

/** Lists all tenants but damaged ones. */
export const listTenants = (
  store: ObjectStore,
  onDamaged: (error: DamagedObjectError) => void = () => {},
): Promise<Tenant[]> =>
  readAll(store, keys.tenants, { read: (value) => tenantSchema.parse(value), onDamaged })

/**
 * Changes or creates a tenant. Concurrent changes are both applied; they take effect within a minute.
 * @throws TurbineError `tenant_busy`; StoreUnavailableError
 *
 * @example await changeTenant(store, 'acme', (tenant) => addGrants(tenant, [{ uri: 's3://data/', access: 'read' }]))
 */
export async function changeTenant(
  store: ObjectStore,
  id: string,
  change: (tenant: Tenant) => Tenant,
): Promise<Tenant> {
  for (let tries = 0; tries < maxTries; tries++) {
    const { tenant, etag } = await load(store, id)
    const changed = tenantSchema.parse(change(tenant))
    if ((await swapJson(store, keys.tenant(id), changed, etag)) !== undefined) return changed
  }
  throw new TurbineError(`The tenant ${id} is being changed by others. Retry.`, {
    status: 409,
    code: 'tenant_busy',
    retriable: true,
  })
}

export function addGrants(tenant: Tenant, grants: Grant[]): Tenant {
  return { ...tenant, grants: [...removeGrants(tenant, grants).grants, ...grants] }
}

export function removeGrants(tenant: Tenant, grants: Grant[]): Tenant {
  const isRemoved = ({ uri, access }: Grant) =>
    grants.some((grant) => grant.uri === uri && grant.access === access)
  return { ...tenant, grants: tenant.grants.filter((grant) => !isRemoved(grant)) }
}

/** Changes some limits; undefined removes one. */
export function setLimits(tenant: Tenant, limits: Tenant['limits']): Tenant {
  return { ...tenant, limits: { ...tenant.limits, ...limits } }
}

async function load(store: ObjectStore, id: string): Promise<{ tenant: Tenant; etag?: string }> {
  const object = await store.get(keys.tenant(id))
  if (!object) return { tenant: { id, grants: [], limits: {} } }
  const text = await new Response(object.body).text()
  try {
    return { tenant: tenantSchema.parse(JSON.parse(text)), etag: object.etag }
  } catch (cause) {
    throw new TurbineError(
      `The settings of the tenant ${id} are unreadable. An operator has to repair ${keys.tenant(id)} in the store.`,
      { status: 500, code: 'tenant_unreadable', retriable: false, cause },
    )
  }
}
