import { Command } from 'commander'
import pMap from 'p-map'
import {
  addGrants,
  changeTenant,
  listTenants,
  readTenant,
  removeGrants,
  setLimits,
} from '../../edge/accounts/tenants.ts'
import { keys } from '../../edge/contract/keys.ts'
import type { Grant, Tenant } from '../../edge/contract/tenant.ts'
import { type StorageUsage, totalUsage } from '../../edge/contract/usage.ts'
import { getJson, type ObjectStore } from '../../infra/store/store.ts'
import { closing } from './closing.ts'
import { UsageError } from './errors.ts'
import { formatBytes, formatTable, plural } from './format.ts'
import type { TenantsEnvironment } from './keys.ts'
import { bytesOrNone, grantUris, limitOrNone, tenantName } from './options.ts'

const examples = `
Examples:
  npx turbine tenants list
  npx turbine tenants grant acme --read s3://acme-photos/ --write s3://acme-results/captions/
  npx turbine tenants revoke-grant acme --write s3://acme-results/captions/
  npx turbine tenants limit acme --requests-per-minute 600 --in-flight 50 --open-batches 3
  npx turbine tenants limit acme --in-flight none --max-storage 20GB

A tenant reads and writes only granted s3:// URIs: s3://bucket/prefix/ grants everything under it, a URI without a trailing
slash one object. Without API keys every request belongs to the tenant "default". Edges apply changes within a minute.
The commands use the service's store: run them with the same settings as the service.`

type GrantFlags = { read?: string[]; write?: string[] }
type StorageFlag = { maxStorage?: number | 'none' }
type LimitFlags = { [Limit in keyof Tenant['limits']]: number | 'none' }

/** `turbine tenants list | show | grant | revoke-grant | limit` */
export function tenantsCommand(environment: TenantsEnvironment): Command {
  const command = new Command('tenants')
    .description('manage grants and limits of tenants')
    .addHelpText('after', examples)
  const add = (name: string, description: string) =>
    command.command(name).description(description).addHelpText('after', examples)
  const ofTenant = (name: string, description: string) =>
    add(name, description).argument('<name>', 'tenant name', tenantName)
  add('list', 'list tenants with their grants and limits').action(() => runListTenants(environment))
  ofTenant('show', 'print a tenant as JSON').action((name: string) => runShowTenant(name, environment))
  ofTenant('grant', 'grant a tenant access to s3:// URIs')
    .option('--read <uri>', 'URI to read; repeatable', grantUris)
    .option('--write <uri>', 'URI to write; repeatable', grantUris)
    .action((name: string, flags: GrantFlags) => runGrant(name, flags, environment))
  ofTenant('revoke-grant', 'revoke grants of a tenant')
    .option('--read <uri>', 'URI of a read grant; repeatable', grantUris)
    .option('--write <uri>', 'URI of a write grant; repeatable', grantUris)
    .action((name: string, flags: GrantFlags) => runRevokeGrant(name, flags, environment))
  ofTenant('limit', 'set limits of a tenant; "none" removes a limit, omitted limits stay')
    .option('--requests-per-minute <n>', 'requests per minute', limitOrNone)
    .option('--in-flight <n>', 'requests in flight', limitOrNone)
    .option('--open-batches <n>', 'unfinished batches', limitOrNone)
    .option('--max-storage <bytes>', 'bytes of files, outputs and uploads, as 20GB', bytesOrNone)
    .action((name: string, { maxStorage: storageBytes, ...flags }: LimitFlags & StorageFlag) =>
      runLimit(name, storageBytes === undefined ? flags : { ...flags, storageBytes }, environment),
    )
  return command
}

/** Prints a table: name, grants, limits, and stored bytes where they were counted. */
async function runListTenants(environment: TenantsEnvironment): Promise<void> {
  const { tenants, usages } = await closing(environment.openStore(), async (store) => {
    const tenants = await listTenants(store, ({ message }) => environment.stderr.write(`${message}\n`))
    const usages = await pMap(tenants, ({ id }) => usageOf(store, id), { concurrency: usagesAtOnce })
    return { tenants, usages }
  })
  if (tenants.length === 0)
    environment.stderr.write(
      'There are no tenants. Create one with "npx turbine keys create --tenant NAME".\n',
    )
  const rows = tenants.map(({ id, grants, limits }, i) => [
    id,
    plural(grants.length, 'grant'),
    describeLimits(limits),
    ...(usages[i] === undefined ? [] : [`${formatBytes(usages[i])} stored`]),
  ])
  environment.stdout.write(formatTable(rows))
}

const usagesAtOnce = 16

/** Bytes that a tenant stores; undefined before they were first counted. */
async function usageOf(store: ObjectStore, tenant: string): Promise<number | undefined> {
  const usage = await getJson<StorageUsage>(store, keys.usage(tenant))
  return usage && totalUsage(usage)
}

/** @throws UsageError for an unknown tenant */
async function runShowTenant(name: string, environment: TenantsEnvironment): Promise<void> {
  const tenant = await closing(environment.openStore(), async (store) => {
    if (await store.head(keys.tenant(name))) return readTenant(store, name)
    throw new UsageError(`There is no tenant "${name}". List them with "npx turbine tenants list".`)
  })
  print(environment, tenant)
}

/** Prints the changed tenant. @throws UsageError without a grant */
async function runGrant(name: string, flags: GrantFlags, environment: TenantsEnvironment): Promise<void> {
  const grants = grantsOf(flags)
  const own = grants.find(({ uri }) => uri.startsWith(`s3://${environment.ownBucket()}/`))
  if (own)
    throw new UsageError(
      `${own.uri} is in the service's own bucket, which holds the data of all tenants. Grant another bucket.`,
    )
  print(environment, await change(environment, name, (tenant) => addGrants(tenant, grants)))
}

/** Prints the changed tenant. @throws UsageError for an unknown grant */
async function runRevokeGrant(
  name: string,
  flags: GrantFlags,
  environment: TenantsEnvironment,
): Promise<void> {
  const grants = grantsOf(flags)
  const changed = await change(environment, name, (tenant) => {
    for (const { uri, access } of grants)
      if (!tenant.grants.some((grant) => grant.uri === uri && grant.access === access))
        throw new UsageError(
          `${name} has no grant to ${access} ${uri}. See its grants with "npx turbine tenants show ${name}".`,
        )
    return removeGrants(tenant, grants)
  })
  print(environment, changed)
}

/** Prints the changed tenant. @throws UsageError without a limit */
async function runLimit(name: string, flags: LimitFlags, environment: TenantsEnvironment): Promise<void> {
  const limits = Object.fromEntries(
    Object.entries(flags).map(([limit, value]) => [limit, value === 'none' ? undefined : value]),
  )
  if (Object.keys(limits).length === 0)
    throw new UsageError(
      'Set --requests-per-minute, --in-flight, --open-batches or --max-storage to a number or none.',
    )
  print(environment, await change(environment, name, (tenant) => setLimits(tenant, limits)))
}

const change = (environment: TenantsEnvironment, name: string, to: (tenant: Tenant) => Tenant) =>
  closing(environment.openStore(), (store) => changeTenant(store, name, to))

function grantsOf({ read = [], write = [] }: GrantFlags): Grant[] {
  if (read.length + write.length === 0)
    throw new UsageError('Set --read s3://bucket/prefix/ or --write s3://bucket/prefix/.')
  return [
    ...read.map((uri) => ({ uri, access: 'read' as const })),
    ...write.map((uri) => ({ uri, access: 'write' as const })),
  ]
}

const print = ({ stdout }: TenantsEnvironment, tenant: Tenant) =>
  stdout.write(`${JSON.stringify(tenant, null, 2)}\n`)

function describeLimits({
  requestsPerMinute,
  inFlight,
  openBatches,
  storageBytes,
}: Tenant['limits']): string {
  const limits = [
    requestsPerMinute && `${requestsPerMinute} requests/min`,
    inFlight && `${inFlight} in flight`,
    openBatches && `${openBatches} open batches`,
    storageBytes && `${formatBytes(storageBytes)} of storage`,
  ].filter(Boolean)
  return limits.length === 0 ? 'no limits' : limits.join(', ')
}
