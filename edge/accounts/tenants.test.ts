import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { PreconditionFailedError } from '../../infra/store/store.ts'
import type { Grant } from '../contract/tenant.ts'
import { addGrants, changeTenant, listTenants, readTenant, removeGrants, setLimits } from './tenants.ts'

const read: Grant = { uri: 's3://photos/', access: 'read' }
const write: Grant = { uri: 's3://photos/', access: 'write' }

test('a tenant that was never written has no grants and no limits', async () => {
  const { store } = memoryStore()
  expect(await readTenant(store, 'acme')).toEqual({ id: 'acme', grants: [], limits: {} })
  expect(await listTenants(store)).toEqual([])
})

test('changes are kept', async () => {
  const { store } = memoryStore()
  await changeTenant(store, 'acme', (tenant) => addGrants(tenant, [read, write]))
  await changeTenant(store, 'acme', (tenant) => setLimits(tenant, { inFlight: 3, openBatches: 1 }))
  await changeTenant(store, 'acme', (tenant) => setLimits(tenant, { openBatches: undefined }))
  await changeTenant(store, 'acme', (tenant) => removeGrants(tenant, [write]))
  const changed = { id: 'acme', grants: [read], limits: { inFlight: 3 } }
  expect(await readTenant(store, 'acme')).toEqual(changed)
  expect(await listTenants(store)).toEqual([changed])
})

test('a grant that is there already is not there twice', () => {
  expect(addGrants({ id: 'acme', grants: [read], limits: {} }, [write, read]).grants).toEqual([write, read])
})

test('two operators at once both get their change in', async () => {
  const { store } = memoryStore()
  const grant = (grants: Grant[]) => changeTenant(store, 'acme', (tenant) => addGrants(tenant, grants))
  await Promise.all([grant([read]), grant([write])])
  expect((await readTenant(store, 'acme')).grants).toHaveLength(2)
})

test('a tenant that others keep changing is a matter for later', async () => {
  const { store } = memoryStore()
  store.put = () => Promise.reject(new PreconditionFailedError('changed'))
  await expect(changeTenant(store, 'acme', (tenant) => tenant)).rejects.toMatchObject({ code: 'tenant_busy' })
})

test.each(['{', '{"id": "acme", "grants": [{"uri": "photos"}]}'])(
  '%s is no tenant, and says where it lies',
  async (text) => {
    const { store } = memoryStore()
    await store.put('tenants/acme.json', text)
    await expect(readTenant(store, 'acme')).rejects.toMatchObject({
      code: 'tenant_unreadable',
      message: expect.stringContaining('tenants/acme.json'),
    })
  },
)
