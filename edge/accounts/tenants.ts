import { readAll, swapJson } from '../../infra/store/json.ts'
import type { ObjectStore } from '../../infra/store/store.ts'
import { TurbineError } from '../contract/errors.ts'
import { keys } from '../contract/keys.ts'
import { type Grant, type Tenant, tenantSchema } from '../contract/tenant.ts'

const maxTurns = 8

/** A tenant as it is kept; one that was never written has no grants and no limits. @throws TurbineError */
export async function readTenant(store: ObjectStore, id: string): Promise<Tenant> {
  return (await load(store, id)).tenant
}

/** The tenants that were written, by name. */
export async function listTenants(store: ObjectStore): Promise<Tenant[]> {
  return readAll<Tenant>(store, keys.tenants)
}

/**
 * Changes a tenant, or writes a new one. Two operators at once both get their change in; edges see it within a minute.
 * @throws TurbineError `tenant_busy`; StoreUnavailableError
 *
 * @example await changeTenant(store, 'acme', (tenant) => addGrants(tenant, [{ uri: 's3://data/', access: 'read' }]))
 */
export async function changeTenant(
  store: ObjectStore,
  id: string,
  change: (tenant: Tenant) => Tenant,
): Promise<Tenant> {
  for (let turn = 0; turn < maxTurns; turn++) {
    const { tenant, etag } = await load(store, id)
    const changed = tenantSchema.parse(change(tenant))
    if ((await swapJson(store, keys.tenant(id), changed, etag)) !== undefined) return changed
  }
  throw new TurbineError(`Others keep changing the tenant ${id}. Try again.`, {
    status: 409,
    code: 'tenant_busy',
    retriable: true,
  })
}

/** The tenant with these grants too. */
export function addGrants(tenant: Tenant, grants: Grant[]): Tenant {
  return { ...tenant, grants: [...removeGrants(tenant, grants).grants, ...grants] }
}

/** The tenant without these grants. */
export function removeGrants(tenant: Tenant, grants: Grant[]): Tenant {
  const goes = ({ uri, access }: Grant) =>
    grants.some((grant) => grant.uri === uri && grant.access === access)
  return { ...tenant, grants: tenant.grants.filter((grant) => !goes(grant)) }
}

/** The tenant with some limits changed; undefined lifts one. */
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
      `The settings of the tenant ${id} cannot be read. An operator has to repair ${keys.tenant(id)} in the store.`,
      { status: 500, code: 'tenant_unreadable', retriable: false, cause },
    )
  }
}
